#!/bin/sh
# Makes what compose.yaml takes from secrets/: random, once. What is there stays as it is.
set -eu
umask 077
folder=${1:-$(dirname "$0")/../secrets}
mkdir -p "$folder"
cd "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
sha256() { # macOS has the other
  if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}
keep() { # NAME CONTENT
  [ -s "$1" ] || printf '%s' "$2" >"$1"
  # A container's user is another one than yours; the folder is closed to others.
  chmod 644 "$1"
}

keep postgres_password "$(random)"
keep admin_key "tl_$(random)"
keep grafana_password "$(random)"
keep s3.json "{\"identities\": [{\"name\": \"toploss\", \"actions\": [\"Admin\"],
 \"credentials\": [{\"accessKey\": \"toploss\", \"secretKey\": \"$(random)\"}]}]}"
# Of the role `predict`, which may read the metrics and no more. At first it was the admin's.
if cmp -s prometheus_key admin_key; then rm prometheus_key; fi
keep prometheus_key "tl_$(random)"
secret=$(sed -n 's/.*"secretKey": "\([^"]*\)".*/\1/p' s3.json)
# Made of the others, and so made anew.
rm -f database_url aws keys
keep keys "prometheus predict $(tr -d '\n' <prometheus_key | sha256)
"
keep database_url "postgresql+psycopg://toploss:$(cat postgres_password)@database/toploss"
keep aws "[default]
aws_access_key_id = toploss
aws_secret_access_key = $secret
"
