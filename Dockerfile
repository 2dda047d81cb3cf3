FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY configs configs
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".[geoparquet,plot]"

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels "stacpull[geoparquet,plot]" \
    && useradd --create-home stacpull
USER stacpull
WORKDIR /data
ENTRYPOINT ["stacpull"]
CMD ["--help"]
