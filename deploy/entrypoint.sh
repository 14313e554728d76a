#!/bin/sh
# The image's `toploss`: `serve`, `healthy`, and every command of the command line.
set -eu

serving=${TMPDIR:-/tmp}/.toploss-serves

case "${1-} ${2-}" in
"serve "*)
  shift
  : >"$serving"
  exec bentoml serve service:Toploss "$@"
  ;;
"healthy "*)
  # A container that does something else is as healthy as its process.
  [ -e "$serving" ] || exit 0
  exec python -c 'import sys, urllib.request as u
try:
    u.urlopen(f"http://127.0.0.1:{sys.argv[1]}/readyz", timeout=4)
except OSError as exc:
    sys.exit(f"toploss: not ready: {exc}")' "${BENTOML_PORT:-3000}"
  ;;
"train "* | "lr-find "* | "dispatch "* | "runs replay")
  if ! python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("fastai") is None)'; then
    echo "toploss: this image only serves, \`$1\` needs the one built with FOR=train" >&2
    exit 2
  fi
  ;;
esac
exec python -m training.cli "$@"
