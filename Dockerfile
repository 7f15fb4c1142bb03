# One image for the control plane (with the Envoy and the workers it starts) and for a worker on its own:
#
#   docker build -t teal .
#   docker run --init -p 8080:8080 -v teal-home:/var/lib/teal teal
#   docker run --entrypoint python teal -m serving --model digits --version 1 ...      (see contracts/worker.py)
#
# Written and reviewed where there is no container engine, so it was never built there: take the first build for a test.
#
# The home is the default one, .teal, in the working directory /var/lib/teal, so that commands need no --home. The
# operating port listens on the container's own loopback: operate with `docker exec CONTAINER teal status`.

# The same base for both stages, because the venv points at its interpreter.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/teal
WORKDIR /src
# The dependencies in a layer of their own: they are large and change less often than the code. Every file that is
# installed has its hash in the lock, the build back end included.
COPY requirements.lock ./
RUN /opt/teal/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY contracts ./contracts
COPY serving ./serving
COPY router ./router
COPY deploy ./deploy
RUN /opt/teal/bin/pip install --no-deps --no-build-isolation . && \
    /opt/teal/bin/python -m compileall -q /opt/teal/lib

FROM ${PYTHON}
# The number, not the name, is what `runAsNonRoot` on Kubernetes can check.
RUN groupadd --gid 10001 teal && \
    useradd --uid 10001 --gid teal --no-create-home --home-dir /var/lib/teal --shell /usr/sbin/nologin teal && \
    install -d -o teal -g teal -m 0700 /var/lib/teal
COPY --from=build /opt/teal /opt/teal
ENV PATH=/opt/teal/bin:$PATH LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/var/lib/teal
USER 10001:10001
WORKDIR /var/lib/teal
VOLUME /var/lib/teal
EXPOSE 8080
STOPSIGNAL SIGTERM
# Asked of the predictions port, so that it says what callers would find.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/v2/health/live', timeout=2)"]
ENTRYPOINT ["teal"]
CMD ["up", "--port", "8080", "--admin-port", "8090"]
