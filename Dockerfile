FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY configs configs
# hadolint ignore=DL3013 -- the version is the one of this checkout
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".[clip,geoparquet,plot,trace]"

FROM python:3.13-slim
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels "stacpull[clip,geoparquet,plot,trace]" \
    && useradd --create-home --uid 1000 stacpull
USER 1000
WORKDIR /data
ENTRYPOINT ["stacpull"]
CMD ["--help"]
