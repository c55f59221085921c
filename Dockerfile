# The pipeline in a container, on the processor. Build and run:
#   docker build -t slimline . && docker run --rm -v slimline:/opt/slimline slimline
# The volume keeps models, metrics, report, runs and the cache of DVC; a second run does only what is stale.
FROM python:3.11-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/slimline
COPY requirements.lock pyproject.toml Makefile ./
# The environment first: it changes seldom. Give PIP_EXTRA_INDEX_URL as build argument to find torch's CPU build.
ARG PIP_EXTRA_INDEX_URL
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.lock

# Compiled loops of networks of one bit stay with the volume, also where all else can only be read.
ENV NUMBA_CACHE_DIR=/opt/slimline/.slimline/numba

COPY . .
RUN .venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --editable . \
 && touch .venv/installed \
 && useradd --create-home slimline && chown -R slimline /opt/slimline
USER slimline
CMD ["make", "repro"]
