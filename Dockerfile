# The AutoScorer image: all of it in one container, or API, worker, Prefect server and flow runs of deployments/, each in
# one of its own.
#
#   docker build -t autoscorer:latest .
#
# BASE_IMAGE: any with Python 3.11 or newer. PIP_INDEX_URL: where packages come from, when not PyPI; PIP_TRUSTED_HOST
# beside it where that is served without a certificate. Where no index can be reached, they come from the folder wheels/
# of this checkout (docs/service.md says how it is filled), and the base may be without pip, such as the one that
# scripts/build-base-image makes.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_FIND_LINKS=/build/packages
# The dependencies first: they change less often than the code. The folder of wheels may be absent, hence the pattern.
COPY requirements/runtime.txt requirements/image.txt wheel[s] /build/packages/
RUN python3 -m venv /opt/autoscorer >/dev/null \
    || { python3 -m venv --clear --without-pip /opt/autoscorer && set -- /build/packages/pip-*.whl \
    && /opt/autoscorer/bin/python "$1/pip" install --quiet --no-index "$1"; }
RUN ! ls /build/packages/*.whl >/dev/null 2>&1 || export PIP_NO_INDEX=1; \
    /opt/autoscorer/bin/python -m pip install --quiet -r /build/packages/image.txt
COPY . /build/autoscorer
RUN ! ls /build/packages/*.whl >/dev/null 2>&1 || export PIP_NO_INDEX=1; \
    /opt/autoscorer/bin/python -m pip install --quiet --no-deps /build/autoscorer
# Nothing is installed or tested in there any more: a tenth of it. What is compiled stays, because a container may not be
# able to write it.
RUN find /opt/autoscorer -depth -type d -name tests \
        -regex '.*/site-packages/\(joblib\|numpy\|pandas\|scipy\|sklearn\)/.*' -exec rm -r {} + \
    && /opt/autoscorer/bin/python -m pip uninstall --quiet --yes pip

FROM ${BASE_IMAGE}
# A user for those who start it without root: compose, the pools of deployments/, `docker run --user 10001:10001`.
RUN groupadd --gid 10001 autoscorer \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin autoscorer \
    && install -d -o 10001 -g 10001 /srv/autoscorer /srv/autoscorer/home /srv/autoscorer/workspaces
COPY --from=build /opt/autoscorer /opt/autoscorer
ENV PATH=/opt/autoscorer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AUTOSCORER_HOME=/srv/autoscorer/home \
    AUTOSCORER_WORKSPACE_ROOTS=/srv/autoscorer/workspaces \
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=false \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
WORKDIR /srv/autoscorer
# Home and workspaces lie where the engine, too, sees them: it mounts runs into the models' own containers.
VOLUME /srv/autoscorer
EXPOSE 8000
# Started without a user it is root in here, as the owner of the engine's socket is, and as whoever has that socket is on
# the host all the same. So each model gets a uid of its own.
CMD ["dumb-init", "--single-child", "--", "python", "-P", "-m", "autoscorer.deployments.serve_all"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=8)"]
