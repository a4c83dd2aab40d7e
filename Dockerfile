# Trains on a CPU or, through NVIDIA's container runtime, on a GPU: the lock has torch's CUDA build, which runs without one.
#
#   docker build -t bcd .
#   docker run --rm -v "$PWD/outputs:/opt/bcd/outputs" bcd experiment=quickstart
#   docker run --rm --gpus all --shm-size 8g -v /path/to/data:/data:ro -v "$PWD/outputs:/opt/bcd/outputs" bcd data=busi model=unet
#   docker run --rm --entrypoint python bcd scripts/prepare_data.py --help
#
# /data is the folder that holds busi/ and busbra/, /weights one with weights files. The mounted outputs must be writable for
# uid 1000, or start the container as yourself: --user "$(id -u):$(id -g)". --shm-size is for the loading processes beside a GPU.
# `docker stop -t 120` leaves a run the time to save itself; resume=outputs/runs/... goes on with it.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

WORKDIR /opt/bcd

# First what seldom changes: the libraries are a layer of their own.
COPY requirements.lock ./
RUN pip install -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY bcd/ bcd/
COPY conf/ conf/
COPY scripts/ scripts/
# Readable, and outputs and the home of caches writable, for whatever user the container is started as.
RUN pip install --no-deps -e . \
    && chmod -R a+rX . \
    && useradd --uid 1000 --create-home bcd \
    && install -d -o bcd -g bcd outputs \
    && chmod 1777 outputs /home/bcd

# HOME and USER: a user id without an entry in the image has neither. NVIDIA_*: what the runtime lends where there is a GPU.
ENV HOME=/home/bcd \
    USER=bcd \
    PYTHONDONTWRITEBYTECODE=1 \
    BCD_DATA=/data \
    BCD_WEIGHTS=/weights \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER bcd
ENTRYPOINT ["python", "scripts/train.py"]
