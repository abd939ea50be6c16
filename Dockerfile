# One image for every process: `docker build --target scoring -t keyword-scoring .`; the command says which (`run worker`, `run beat`, ...).
# The target `notebook` adds JupyterLab. Works with BuildKit and without. What changes rarely comes first: a change of code
# builds only the last layers.

# nothing but the lists of OS packages, so that a change of a definition's code does not install them again
FROM python:3.13-slim-bookworm AS os-packages
LABEL keyword-scoring=""
COPY model_store /model_store
RUN find /model_store -type f ! -name install_dependencies.sh -delete && find /model_store -type d -empty -delete


FROM python:3.13-slim-bookworm AS libraries
# by it build_pipelines.sh knows which images without a name are left from its builds
LABEL keyword-scoring=""
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# wheels alone: nothing is compiled, so there is no compiler to take out again
WORKDIR /app
COPY requirements-image.lock ./
RUN pip install --quiet --no-cache-dir --only-binary :all: --require-hashes --requirement requirements-image.lock

COPY --from=os-packages /model_store /tmp/model_store
RUN for script in /tmp/model_store/*/install_dependencies.sh; do bash "$script" || exit 1; done \
    && rm -rf /tmp/model_store /var/lib/apt/lists/* /var/cache/apt/*

# writable like /tmp, because docker-compose.yml lets the processes run as you, so that what they write into ./bucket is yours
RUN useradd --uid 1000 --no-create-home --home-dir /var/lib/scoring scoring \
    && install --directory --mode 1777 /bucket /var/lib/scoring
ENV BUCKET_URL=/bucket SCORING_HOME=/var/lib/scoring HOME=/var/lib/scoring
ENV SCORING_FLOWER_HOST=0.0.0.0


FROM libraries AS scoring
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY producers producers
COPY workers workers
COPY model_store model_store
RUN pip install --quiet --no-cache-dir --no-deps --no-build-isolation --editable . && python -m compileall -q shared producers workers model_store

# all that is written with a read-only root; named here so that ECS makes them writable for every user
VOLUME ["/tmp", "/var/lib/scoring"]
USER 1000:1000
ENTRYPOINT ["scoring"]
CMD ["--help"]


FROM libraries AS notebook
COPY requirements-notebook.lock ./
RUN pip install --quiet --no-cache-dir --only-binary :all: --require-hashes --requirement requirements-notebook.lock
COPY --from=scoring /app ./
RUN pip install --quiet --no-cache-dir --no-deps --no-build-isolation --editable .
USER 1000:1000
EXPOSE 9999
ENTRYPOINT ["scoring"]
CMD ["notebook", "--host", "0.0.0.0", "--no-browser"]
