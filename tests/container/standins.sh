#!/bin/sh
# Base images under their official names where no registry can be reached: what Dockerfile and compose.yaml take from them and nothing
# else, made of Debian's own packages. Needs root, debootstrap, and a mirror. DOCKER names the client.
#   tests/container/standins.sh FOLDER     (kept in FOLDER, so that a second time takes a minute)
set -eu
folder=$1
docker=${DOCKER:-docker}
root=$folder/debian

if ! [ -e "$root.done" ]; then
  rm -rf "$root"
  debootstrap --variant=minbase --include=python3.11,python3.11-venv,python3-pip,ca-certificates,tzdata,netbase bookworm "$root"
  # The authorities that this machine trusts, for indexes and mirrors behind a proxy of its own.
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  # The official image has Python under /usr/local.
  ln -s /usr/bin/python3.11 "$root/usr/local/bin/python3.11"
  ln -s python3.11 "$root/usr/local/bin/python3"
  ln -s python3.11 "$root/usr/local/bin/python"
  rm -rf "$root/var/cache/apt/archives" "$root/var/lib/apt/lists"
  mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial"
  touch "$root.done"
fi
tar -C "$root" -c . | "$docker" import --change 'CMD ["python3"]' - python:3.11-slim-bookworm

# PostgreSQL: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, PGDATA, and scripts in /docker-entrypoint-initdb.d on an empty volume.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cat >"$context/docker-entrypoint.sh" <<'ENTRY'
#!/bin/bash
set -euo pipefail
: "${POSTGRES_PASSWORD:?}" "${POSTGRES_USER:=postgres}" "${POSTGRES_DB:=$POSTGRES_USER}" "${PGDATA:=/var/lib/postgresql/data}"
export POSTGRES_USER POSTGRES_DB PGDATA PATH=/usr/lib/postgresql/15/bin:$PATH
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown -R postgres "$PGDATA"
  chmod 700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if ! [ -s "$PGDATA/PG_VERSION" ]; then
  initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-host=scram-sha-256 >/dev/null
  printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  # While it is set up it listens to nobody from outside, so that nobody takes it for ready.
  pg_ctl start --wait --silent --options="-c listen_addresses=''"
  [ "$POSTGRES_DB" = postgres ] || createdb --username="$POSTGRES_USER" --maintenance-db=postgres "$POSTGRES_DB"
  for script in /docker-entrypoint-initdb.d/*.sh; do [ ! -e "$script" ] || bash "$script"; done
  pg_ctl stop --wait --silent --mode=fast
fi
exec "$@"
ENTRY
cat >"$context/Dockerfile" <<'IMAGE'
FROM python:3.11-slim-bookworm
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql-15 && rm -rf /var/lib/apt/lists/*
COPY docker-entrypoint.sh /usr/local/bin/
RUN chmod 755 /usr/local/bin/docker-entrypoint.sh && install -d -o postgres /var/run/postgresql /var/lib/postgresql/data
ENV LANG=C.UTF-8 PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres", "-c", "listen_addresses=*"]
IMAGE
DOCKER_BUILDKIT=1 "$docker" build --network host --tag postgres:15-bookworm "$context"
