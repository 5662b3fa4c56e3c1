#!/bin/sh
# Lint, types and tests, in an environment of their own. From any folder, again and again; arguments go to pytest.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/env.sh"
make_env "$here/.venv-test" "$here" dev
sh "$here/scripts/install_torchrec.sh" "$here/.venv-test"
cd "$here"
bin=$here/.venv-test/bin
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
"$bin/python" -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal "$@"
