# One image for every process: `docker build --target scoring -t keyword-scoring .`; the command says which (`run worker`, `run beat`, ...).
# The target `notebook` adds JupyterLab. Works with and without BuildKit. The layers that change rarely come first: a change of code
# rebuilds only the last ones.

# only the scripts with OS packages, so that a change of a definition's code does not install the packages again
FROM python:3.13-slim-bookworm AS os-packages
LABEL keyword-scoring=""
COPY model_store /model_store
RUN find /model_store -type f ! -name install_dependencies.sh -delete && find /model_store -type d -empty -delete


FROM python:3.13-slim-bookworm AS libraries
# by this label build_pipelines.sh finds the untagged images of its builds
LABEL keyword-scoring=""
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# only wheels: nothing is compiled, so no compiler has to be removed afterwards
WORKDIR /app
COPY requirements-image.lock ./
RUN pip install --quiet --no-cache-dir --only-binary :all: --require-hashes --requirement requirements-image.lock

COPY --from=os-packages /model_store /tmp/model_store
RUN for script in /tmp/model_store/*/install_dependencies.sh; do bash "$script" || exit 1; done \
    && rm -rf /tmp/model_store /var/lib/apt/lists/* /var/cache/apt/*

# world-writable like /tmp, because docker-compose.yml runs the processes as your user, so that their files in ./bucket are yours
RUN useradd --uid 1000 --no-create-home --home-dir /var/lib/scoring scoring \
    && install --directory --mode 1777 /bucket /var/lib/scoring
ENV BUCKET_URL=/bucket SCORING_HOME=/var/lib/scoring HOME=/var/lib/scoring
ENV SCORING_FLOWER_HOST=0.0.0.0
ENV SCORING_SERVE_HOST=0.0.0.0


FROM libraries AS scoring
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY producers producers
COPY workers workers
COPY model_store model_store
RUN pip install --quiet --no-cache-dir --no-deps --no-build-isolation --editable . && python -m compileall -q shared producers workers model_store

# all paths that are written with a read-only root; declared here so that ECS makes them writable for every user
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
