# The worker's image. `docker build -t session-worker .`; then any command: `docker run --rm session-worker --help`.
# Two stages: what installs stays behind, what runs is the interpreter, the pinned packages and the worker.

FROM python:3.11-slim AS build
WORKDIR /app
COPY requirements.txt .
# Only ready-made wheels, each checked against its hash: nothing is compiled, here or later.
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: -r requirements.txt \
 && rm requirements.txt
COPY worker worker
COPY schemas schemas
# The image is read-only when it runs: bytecode is made now or never.
RUN /opt/venv/bin/python -m compileall -q worker

FROM python:3.11-slim
LABEL org.opencontainers.image.title="session-worker" \
      org.opencontainers.image.description="Session updates in, enriched sessions out: exactly once, on Kafka." \
      org.opencontainers.image.version="0.1.0"
# A new volume mounted on /state takes over its owner. (No VOLUME: without one named, each run would leave one behind.)
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin worker \
 && install --directory --owner 10001 --mode 0750 /state
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WORKER_STATE_DIR=/state \
    WORKER_LOG_FORMAT=json
USER 10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-m", "worker", "health"]
ENTRYPOINT ["python", "-m", "worker"]
CMD ["run"]
