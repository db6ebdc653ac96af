# One image for every role: web, worker, beat and migrate differ in their command (docker-compose.yml).
FROM python:3.11-slim AS build
COPY requirements/base.txt /build/base.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
       -r /build/base.txt

FROM python:3.11-slim
RUN groupadd --gid 10001 aum && useradd --uid 10001 --gid 10001 --home-dir /srv/aum --no-create-home aum
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/aum
COPY manage.py LICENSE ./
COPY aum aum
COPY apps apps
COPY templates templates
COPY static static
# Byte code is compiled here, because the running container cannot write to its own file system.
RUN /opt/venv/bin/python -m compileall -q aum apps
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    AUM_DATA_DIR=/tmp/aum
USER 10001:10001
EXPOSE 8000
CMD ["gunicorn", "-c", "python:aum.runtime.gunicorn_conf"]
