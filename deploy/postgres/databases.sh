#!/bin/sh
# Run once, by the image of PostgreSQL, when the volume is empty. Each program has a database of its own: MLflow and Optuna both keep
# their version in a table of the same name.
set -eu
for name in runs accounts sweeps; do
  psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --command "CREATE DATABASE $name"
done
