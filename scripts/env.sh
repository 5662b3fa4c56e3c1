# Sourced by the scripts: makes a virtual environment, and makes it again only when what it installs changes.

# make_env FOLDER REPO [EXTRA]: installs dmtl into FOLDER, editable, with an extra.
make_env() {
  folder=$1 repo=$2 extra=${3:-}
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "dmtl needs Python 3.11 or newer; set PYTHON to one" >&2
    exit 78
  }
  want="$repo $extra $("$python" -VV) $(cksum <"$repo/pyproject.toml")"
  if [ "$(cat "$folder/.made-for" 2>/dev/null)" != "$want" ] || ! "$folder/bin/dmtl" --version >/dev/null 2>&1; then
    echo "installing into $folder" >&2
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$repo${extra:+[$extra]}"
    printf %s "$want" >"$folder/.made-for"
  fi
}
