#!/bin/sh
# The tests with the lowest version of each dependency that pyproject.toml allows, in an environment of their own.
# Arguments go to pytest.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
venv=$here/.venv-lowest
python=${PYTHON:-python3}
bounds=$venv/lowest.txt
want="$("$python" -VV) $(cksum <"$here/pyproject.toml")"
if [ "$(cat "$venv/.made-for" 2>/dev/null)" != "$want" ]; then
  echo "installing into $venv" >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  # of what dmtl itself imports; tools of the tests are as new as they come
  "$venv/bin/python" - "$here/pyproject.toml" >"$bounds" <<'EOF'
import re, sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
extras = project["optional-dependencies"]
named = [*project["dependencies"], *(r for name in ("train", "index", "serve", "report") for r in extras[name])]
for requirement in named:
    name, _, rest = requirement.partition(">=")
    if name != "torch":  # its builds differ by machine: a file that PIP_CONSTRAINT names may choose
        print(f"{name}=={re.split('[,; ]', rest)[0]}")
EOF
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$here[dev]" --constraint "$bounds" ${PIP_CONSTRAINT:+--constraint "$PIP_CONSTRAINT"}
  printf %s "$want" >"$venv/.made-for"
fi
cd "$here"
"$venv/bin/python" -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal -W default "$@"
