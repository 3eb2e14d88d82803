# The dashboard and the REST API: small, not root, on a read-only file system. See docs/deploy.md.
#   docker build -t giemsa .
#   docker run --read-only --tmpfs /tmp -v giemsa-reviews:/data -e GIEMSA_TOKEN=... -p 127.0.0.1:8000:8000 giemsa
#
# Every package has its version and its digest in docker/. So that the base image has too, give it as
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:... -t giemsa .
# with the digest that `docker buildx imagetools inspect python:3.13-slim` shows.

ARG PYTHON_IMAGE=python:3.13-slim
FROM ${PYTHON_IMAGE} AS build
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
COPY examples/cells /src/examples/cells
COPY examples/fields /src/examples/fields
COPY docker /src/docker
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r /src/docker/build.txt \
 && /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /src \
 && python -m venv /opt/giemsa \
 && /opt/giemsa/bin/pip install --no-cache-dir --require-hashes -r /src/docker/requirements.txt \
 && /opt/giemsa/bin/pip install --no-cache-dir --no-deps --no-index /wheels/giemsa-*.whl

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/giemsa /opt/giemsa
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin giemsa \
 && mkdir /data && chown giemsa: /data
ENV PATH=/opt/giemsa/bin:$PATH PYTHONDONTWRITEBYTECODE=1 XDG_DATA_HOME=/data
USER giemsa
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# Without GIEMSA_TOKEN it refuses to start, unless --insecure is added.
ENTRYPOINT ["giemsa", "serve", "--host", "0.0.0.0"]
