#!/bin/sh
# Makes what compose.yaml takes from secrets/: random, once. What is there stays as it is.
set -eu
umask 077
folder=${1:-$(dirname "$0")/../secrets}
mkdir -p "$folder"
cd "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
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
# Until somebody puts one of the role `predict` there, which may read the metrics and no more.
keep prometheus_key "$(cat admin_key)"
secret=$(sed -n 's/.*"secretKey": "\([^"]*\)".*/\1/p' s3.json)
# Made of the others, and so made anew.
rm -f database_url aws
keep database_url "postgresql+psycopg://toploss:$(cat postgres_password)@database/toploss"
keep aws "[default]
aws_access_key_id = toploss
aws_secret_access_key = $secret
"
