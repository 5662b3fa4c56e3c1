#!/bin/sh
# Installs TorchRec and FBGEMM, which share embedding tables among processes, beside the torch of an environment.
# scripts/install_torchrec.sh [VENV]   (default: .venv beside this folder). May be run again.
# The two must be of one release, and TorchRec's requirements name no build of FBGEMM that pip could choose, so nothing
# is resolved here: the list has all that both import beyond what dmtl installs.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
venv=${1:-$here/.venv}
python=$venv/bin/python
[ -x "$python" ] || { echo "no environment in $venv; name one: $0 VENV" >&2; exit 66; }
case $("$python" -c 'from importlib.metadata import version; print(version("torch"))') in
  *+cpu) fbgemm=fbgemm-gpu-cpu ;;
  *) fbgemm=fbgemm-gpu ;;
esac
set -- "torchrec==1.8.0" "$fbgemm==1.8.0" "torchmetrics==1.0.3" "tensordict==0.15.3" "pyre-extensions==0.0.32" \
  "lightning-utilities==0.15.3" "typing-inspect==0.9.0" "pyvers==0.2.3" "cloudpickle==3.1.3" "mypy_extensions==1.2.0"
[ "$(cat "$venv/.torchrec" 2>/dev/null)" != "$*" ] || exit 0
echo "installing TorchRec into $venv" >&2
"$python" -m pip install --quiet --disable-pip-version-check --no-deps "$@"
"$python" -W ignore -c 'import torchrec'
printf %s "$*" >"$venv/.torchrec"
