# One image, several commands. FOR=serve leaves out what only trainings need, ACCELERATOR=cpu what
# only GPUs need: deploy/$FOR-$ACCELERATOR.lock says what is in it. See docs/image.md.
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS libraries
ARG FOR=train
ARG ACCELERATOR=cuda
COPY deploy/${FOR}-${ACCELERATOR}.lock /opt/requirements.lock
# A mirror is named in a pip.conf that comes as a secret: neither it nor pip is in the image.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /tmp/pip \
    && python3 -m venv --without-pip /opt/venv \
    && /tmp/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-deps \
        --require-hashes --only-binary :all: -r /opt/requirements.lock \
    && rm -rf /tmp/pip

FROM ${BASE} AS code
COPY toploss /opt/toploss/toploss
COPY training /opt/toploss/training
COPY service /opt/toploss/service
COPY README.md LICENSE CHANGELOG.md /opt/toploss/
# Nothing can be compiled later: the root is read-only.
RUN python3 -m compileall -q --invalidation-mode checked-hash /opt/toploss

# On the libraries, not with a copy of them: gigabytes are written once.
FROM libraries
LABEL org.opencontainers.image.title="Toploss" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 toploss \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --no-log-init \
        --shell /usr/sbin/nologin toploss \
    && install -d -o 10001 -g 10001 /data /weights
COPY --from=code /opt/toploss /opt/toploss
COPY --chmod=0755 deploy/entrypoint.sh /usr/local/bin/toploss
# All that is written lies in /data and /tmp; weights that are downloaded, in /weights.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/toploss \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TOPLOSS_HOME=/data \
    BENTOML_HOME=/tmp/bentoml \
    BENTOML_HOST=0.0.0.0 \
    BENTOML_PORT=3000 \
    BENTOML_DO_NOT_TRACK=True \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    XDG_CONFIG_HOME=/tmp/config \
    XDG_DATA_HOME=/tmp/share \
    MPLCONFIGDIR=/tmp/matplotlib \
    FASTAI_HOME=/tmp/fastai \
    TORCH_HOME=/weights \
    HF_HOME=/weights/huggingface \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /opt/toploss
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["toploss", "healthy"]
# One child, which gets the signals: BentoML drains on SIGTERM, the dispatcher ends its training.
ENTRYPOINT ["dumb-init", "--single-child", "--", "toploss"]
CMD ["serve"]
