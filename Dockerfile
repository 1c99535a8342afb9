# The studio in a container: set-up and the demo at build, then the page on port 7860. See docs/docker.md.
FROM python:3.11-slim-bookworm

RUN useradd --create-home vqwave && install -d -o vqwave -g vqwave /vqwave
USER vqwave
WORKDIR /vqwave

# What set-up reads comes first, so that a change elsewhere does not install again.
COPY --chown=vqwave pyproject.toml setup.py setup.sh activate.sh constraints.txt README.md LICENSE NOTICE ./
COPY --chown=vqwave lib lib
COPY --chown=vqwave scripts scripts
COPY --chown=vqwave recipes recipes
COPY --chown=vqwave final_weights final_weights
COPY --chown=vqwave weights weights

# Here whoever runs the container finds the models that the build exports.
ENV VQWAVE_CACHE=/vqwave/cache

# A container has no sound device, so nothing of apt is needed. The demo shows that the image works, and fills the cache.
RUN PIP_NO_CACHE_DIR=1 bash setup.sh --no-apt --demo

EXPOSE 7860
CMD [".venv/bin/python", "scripts/app.py", "--host", "0.0.0.0", "--port", "7860"]
