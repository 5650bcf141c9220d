# geoseg in a container, as a user without rights.
#
#   docker build -t geoseg .                                                   CPU
#   docker build -t geoseg:cuda --build-arg TORCH=cu128 .                      CUDA (a tag of download.pytorch.org/whl)
#   docker build -t geoseg:train --build-arg EXTRAS=plot,train .               more extras of pyproject.toml
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" geoseg predict scene.tif --out landcover.tif
#   docker run --rm --gpus all -v "$PWD:/data" geoseg:cuda predict scene.tif --out landcover.tif --device cuda

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG TORCH=cpu
ARG EXTRAS=plot
RUN python -m venv /opt/geoseg
ENV PATH=/opt/geoseg/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
# torch first, from the index of its kind; in a layer of its own, which a change of geoseg does not touch
RUN pip install -c constraints.txt --index-url "https://download.pytorch.org/whl/${TORCH}" \
    --extra-index-url https://pypi.org/simple torch torchvision
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY geoseg geoseg
COPY cli cli
RUN pip install -c constraints.txt ".[${EXTRAS}]" && find /opt/geoseg -name __pycache__ -type d -prune -exec rm -rf {} +

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="geoseg" \
    org.opencontainers.image.description="Land-cover maps from georeferenced rasters too big for memory" \
    org.opencontainers.image.licenses="MIT"
# libexpat: the wheels of rasterio take the system's
RUN apt-get update && apt-get install -y --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 geoseg && mkdir /data && chown geoseg /data
COPY --from=build /opt/geoseg /opt/geoseg
# any --user can write there: caches are no part of the image
ENV PATH=/opt/geoseg/bin:$PATH HOME=/tmp GEOSEG_CACHE=/tmp/geoseg NUMBA_CACHE_DIR=/tmp/numba \
    MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1
USER geoseg
WORKDIR /data
ENTRYPOINT ["geoseg"]
CMD ["--help"]
