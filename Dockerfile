# One image for web, gateway, worker and beat: the command chooses (docker-compose.yml).

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/farebox
ENV PATH=/opt/farebox/bin:$PATH
COPY requirements.txt /tmp/requirements.txt
RUN pip install --require-hashes --only-binary :all: -r /tmp/requirements.txt
WORKDIR /app
COPY . .
# The addresses are never dialled here; settings only want to know that somebody thought of them.
RUN SECRET_KEY=build-only DATABASE_URL=postgres://build/only REDIS_URL=redis://build/0 \
    python manage.py collectstatic --noinput \
    && python -m compileall -q /app

# nginx with the same release's static files (the `edge` profile of docker-compose.yml).
FROM nginx:1.28-alpine AS edge
COPY --from=build /app/staticfiles /srv/static
COPY deploy/nginx/proxy.conf /etc/nginx/farebox/proxy.conf
COPY deploy/nginx/farebox.conf.template /etc/nginx/templates/default.conf.template

FROM python:3.11-slim AS app
# Letters of all alphabets on invoices; any version of the font will do.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes fonts-dejavu-core \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin farebox \
    && install --directory --owner farebox --group farebox /var/lib/farebox
COPY --from=build /opt/farebox /opt/farebox
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/farebox/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=config.settings \
    FAREBOX_VAR_DIR=/var/lib/farebox \
    HEALTH_URL=http://127.0.0.1:8000/livez
USER 10001
EXPOSE 8000 9090
# gateway, worker and beat bring their own check or HEALTH_URL.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['HEALTH_URL'], timeout=4)"]
CMD ["gunicorn", "config.wsgi:application", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", \
     "--workers", "2", "--threads", "8", "--keep-alive", "75", "--worker-tmp-dir", "/dev/shm", "--no-control-socket"]
