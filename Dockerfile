# The studio in a container: set-up and the demo at build, then the page on port 7860. See docs/docker.md.
FROM python:3.11-slim-bookworm

RUN useradd --create-home vqwave && install -d -o vqwave -g vqwave /vqwave
USER vqwave
WORKDIR /vqwave
# A place where every user of the container can read the exported models.
ENV VQWAVE_CACHE=/vqwave/cache

# The environment first: a change of the scripts or the weights does not install it again.
COPY --chown=vqwave pyproject.toml setup.py setup.sh activate.sh README.md LICENSE NOTICE ./
COPY --chown=vqwave locks locks
COPY --chown=vqwave LICENSES LICENSES
COPY --chown=vqwave lib lib
RUN PIP_NO_CACHE_DIR=1 bash setup.sh --no-apt

# A container has no sound device, so it needs nothing of apt. The demo exports the models and shows that all works.
COPY --chown=vqwave scripts scripts
COPY --chown=vqwave recipes recipes
COPY --chown=vqwave final_weights final_weights
COPY --chown=vqwave weights weights
RUN bash setup.sh --no-apt --demo

EXPOSE 7860
CMD [".venv/bin/python", "scripts/app.py", "--host", "0.0.0.0", "--port", "7860"]
