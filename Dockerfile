# CPU:   docker build -t cxrsynth .
# CUDA:  docker build -t cxrsynth --build-arg TORCH= .          then run it with --gpus all
# Run:   docker run --rm -u "$(id -u)" -v "$PWD:/work" cxrsynth generate --prompts recipes/lung.yaml

FROM python:3.12-slim AS build
# DenseCRF is built from source.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
# Where torch comes from: its CPU wheels are 4 GB smaller; left empty, it is the one with CUDA.
ARG TORCH=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cxrsynth cxrsynth
COPY recipes recipes
RUN python -m venv /opt/cxrsynth && /opt/cxrsynth/bin/pip install --no-cache-dir -c constraints.txt \
    ${TORCH:+--extra-index-url "$TORCH"} '.[dicom,export]'

FROM python:3.12-slim
COPY --from=build /opt/cxrsynth /opt/cxrsynth
# Any user may run it: what is cached lies beside the work.
ENV PATH=/opt/cxrsynth/bin:$PATH HOME=/work
WORKDIR /work
ENTRYPOINT ["cxrsynth"]
