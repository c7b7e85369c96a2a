# The gateway in a container, in the foreground, as nobody. Build: docker build -t trollbridge .
#
#   docker run --name trollbridge -p 8080:8080 --env-file env -v trollbridge-state:/var/lib/trollbridge --stop-timeout 330 trollbridge
#
# --stop-timeout: a stop lets open streams end, for at most grace_period_seconds (300) of pingora.yaml; Docker alone waits 10 seconds.
# A new version is a new container: `trollbridge upgrade` needs a machine on which the old process may end without ending the other.

FROM rust:1.95.0-slim-bookworm AS build
# For zlib-ng, which Pingora needs.
RUN apt-get update && apt-get install --yes --no-install-recommends cmake make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist --bin trollbridge
# What is published by -p does not come in by 127.0.0.1; the admin listener stays inside.
RUN mkdir -p out/empty \
    && sed -e 's|"127\.0\.0\.1:8080"|"0.0.0.0:8080"|' -e '/"\$schema"/d' config.json >out/config.json \
    && env -i target/dist/trollbridge check --config out/config.json

FROM debian:12.11-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/target/dist/trollbridge /usr/bin/
COPY --from=build /src/out/config.json /src/conf/pingora.yaml /etc/trollbridge/
COPY --from=build --chown=65532:65532 --chmod=0700 /src/out/empty/ /var/lib/trollbridge/
COPY --from=build --chown=65532:65532 --chmod=0700 /src/out/empty/ /run/trollbridge/

USER 65532:65532
ENV STATE_DIRECTORY=/var/lib/trollbridge
VOLUME ["/var/lib/trollbridge"]
EXPOSE 8080
STOPSIGNAL SIGTERM
# Ends with 75, which is unhealthy, where the gateway is not ready: while it starts, drains, or its ledger can't be written.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["/usr/bin/trollbridge", "status", "--conf", "/etc/trollbridge/pingora.yaml", "--config", "/etc/trollbridge/config.json"]
ENTRYPOINT ["/usr/bin/trollbridge"]
CMD ["run", "--conf", "/etc/trollbridge/pingora.yaml", "--config", "/etc/trollbridge/config.json"]
