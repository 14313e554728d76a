#!/usr/bin/env bash
# Builds the images for real, without a daemon and without a registry, and tries them (deploy/trial.py):
# buildah with chroot isolation, on a base by debootstrap. Needs root, and `make .venv`.
# Ends with 0: passed; 77: skipped, for lack of a tool; else: failed.
#
#   DEBIAN_MIRROR  where debootstrap fetches from; Debian's own unless set
#   PIP_CONF       a pip.conf that names a mirror; none unless set
#   CA_FOLDER      certificates that the build trusts, mounted; the base's own unless set
#   STORE          folder for all of it (12 GB); a new one, removed at the end, unless set
#   STORAGE_DRIVER overlay; vfs where the kernel has none: it copies every layer
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in buildah debootstrap unshare ip; do
  if ! command -v "$tool" >/dev/null; then
    echo "skipped: no $tool"
    exit 77
  fi
done
if [ "$(id -u)" != 0 ]; then
  echo "skipped: not root, which chroot isolation and debootstrap need"
  exit 77
fi

python=${PYTHON:-.venv/bin/python}
if [ -n "${STORE-}" ]; then
  mkdir -p "$STORE"
else
  STORE=$(mktemp -d -t toploss-image-XXXX)
  trap 'rm -rf "$STORE"' EXIT
fi
export STORE
buildah() {
  command buildah --root "$STORE/images" --runroot "$STORE/run" \
    --storage-driver "${STORAGE_DRIVER:-overlay}" "$@"
}

if ! buildah inspect --type image localhost/toploss-base >/dev/null 2>&1; then
  echo "· a base: Debian and Python, nothing else"
  rm -rf "$STORE/base"
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    bookworm "$STORE/base" ${DEBIAN_MIRROR-} >"$STORE/debootstrap.log"
  rm -rf "$STORE"/base/var/cache/apt/* "$STORE"/base/var/lib/apt/lists/* "$STORE"/base/dev/*
  scratch=$(buildah from scratch)
  buildah add --quiet "$scratch" "$STORE/base" / >/dev/null
  buildah commit --quiet --rm "$scratch" localhost/toploss-base >/dev/null
  rm -rf "$STORE/base"
fi

build() { # FOR ACCELERATOR
  echo "· building toploss-$1-$2"
  local more=()
  [ -z "${PIP_CONF-}" ] || more+=(--secret "id=pip,src=$PIP_CONF")
  [ -z "${CA_FOLDER-}" ] || more+=(--volume "$CA_FOLDER:/etc/ssl/certs:ro")
  # Docker's format: the other has no health check.
  buildah build --isolation=chroot --format docker --layers --quiet "${more[@]}" \
    --build-arg BASE=localhost/toploss-base --build-arg FOR="$1" --build-arg ACCELERATOR="$2" \
    --tag "localhost/toploss-$1-$2" . >/dev/null
}
build serve cpu
build train cuda

echo "· trying them, with no network but this machine's loopback"
unshare --net -- sh -c 'ip link set lo up && exec "$@"' - \
  env PYTHONPATH=. "$python" deploy/trial.py \
  --store "$STORE" --driver "${STORAGE_DRIVER:-overlay}" \
  --serve localhost/toploss-serve-cpu --train localhost/toploss-train-cuda
