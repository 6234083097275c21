# The studio and the command line in one image: docker build -t restora .
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/restora
COPY constraints.txt pyproject.toml README.md LICENSE /source/
# PyTorch for the CPU comes from its own index: the usual one brings gigabytes of GPU libraries
RUN /opt/restora/bin/pip install --index-url https://download.pytorch.org/whl/cpu \
    "$(grep '^torch==' /source/constraints.txt)"
COPY restora /source/restora
RUN /opt/restora/bin/pip install -c /source/constraints.txt "/source[studio]"

FROM python:3.11-slim
LABEL org.opencontainers.image.title="Restora" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --uid 1000 restora && install -d -o restora -g restora /data
COPY --from=build /opt/restora /opt/restora
ENV PATH=/opt/restora/bin:$PATH RESTORA_CACHE=/data PYTHONUNBUFFERED=1
USER restora
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", \
    "import socket; socket.create_connection(('127.0.0.1', 7860), 3).close()"]
ENTRYPOINT ["restora"]
# within a container the server has to listen to the outside; a token is printed unless RESTORA_TOKEN gives one
CMD ["studio", "--host", "0.0.0.0", "--no-browser"]
