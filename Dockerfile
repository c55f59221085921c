# The pipeline in a container. docs/operations.md says how to deploy it; in short:
#   docker build -t slimline . && docker run --rm -v slimline:/workspace slimline
# For a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130, and docker run --gpus all.
# A package index with a password comes as a secret, which no layer keeps: --secret id=pip,src=pip.conf
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# What is installed changes seldom, and is a layer of its own.
FROM ${PYTHON_IMAGE} AS environment
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
COPY requirements.lock pyproject.toml ./
# What pyproject.toml asks for, in the versions that requirements.lock pins; not what tests alone need.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/venv \
 && python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["postgresql"], *p["optional-dependencies"]["hub"], "setuptools", "wheel", sep="\n")' > runtime.txt \
 && /opt/venv/bin/pip install --disable-pip-version-check --extra-index-url "$TORCH_INDEX" --constraint requirements.lock --requirement runtime.txt
# Packages' own tests, which nothing imports.
RUN find /opt/venv -type d -name tests -prune -exec rm -r {} +

FROM ${PYTHON_IMAGE} AS base
# tini is the first process: it passes signals on, and asks after processes whose parents have died. Debian's mirrors drop old
# versions, so these two are those of the base image's release: pin it by digest, PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:…
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git tini \
 && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache \
 && useradd --uid 1000 --no-create-home --home-dir /tmp slimline \
 && install -d -o slimline -g slimline /workspace
# USER: a name for whoever it is run as (--user), who has no entry in /etc/passwd.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=slimline PYTHONUNBUFFERED=1

# Beside the pipeline: the MLflow server with its accounts, and Optuna's dashboard.
FROM base AS services
COPY --from=environment /opt/venv /opt/venv
COPY requirements.lock deploy/services.txt /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --disable-pip-version-check --constraint /build/requirements.lock --requirement /build/services.txt \
 && install -d -o slimline -g slimline /artifacts
COPY --chmod=0755 deploy/mlflow /opt/mlflow
USER 1000:1000
VOLUME /artifacts
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=300s CMD ["python", "/opt/mlflow/healthy.py"]
ENTRYPOINT ["tini", "--"]

FROM base AS pipeline
COPY --from=environment /opt/venv /opt/venv
COPY . /opt/slimline
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --disable-pip-version-check --no-cache-dir --no-deps --no-build-isolation /opt/slimline \
 && rm -rf /opt/slimline/build /opt/slimline/src/*.egg-info \
 && chmod -R go-w,a+rX /opt/slimline
# Code that DVC hashes is code that runs: that of the workspace, which the entry point brings up to that of the image.
# All that is written lies in the workspace or in /tmp, so the rest may be read-only. Git may look at a workspace of another owner.
ARG REVISION=unknown
ENV PYTHONPATH=/workspace/src \
    DVC_SITE_CACHE_DIR=/workspace/.slimline/cache/dvc \
    NUMBA_CACHE_DIR=/workspace/.slimline/cache/numba \
    MPLCONFIGDIR=/workspace/.slimline/cache/matplotlib \
    XDG_CACHE_HOME=/workspace/.slimline/cache \
    GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=* \
    SLIMLINE_IMAGE=${REVISION}
LABEL org.opencontainers.image.title=slimline org.opencontainers.image.revision=${REVISION}
USER 1000:1000
WORKDIR /workspace
VOLUME /workspace
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s CMD ["slimline", "healthy"]
ENTRYPOINT ["tini", "--", "python", "/opt/slimline/deploy/entrypoint.py"]
CMD ["slimline", "repro"]
