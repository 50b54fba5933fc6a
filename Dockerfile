# syntax=docker/dockerfile:1
# Builds the service, and ships the binary alone on a small image, run by nobody in particular.

FROM rust:1.95-bookworm AS build
WORKDIR /palisade
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/palisade/target \
    cargo build --locked --release && cp target/release/palisade /usr/local/bin/palisade

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin palisade
COPY --from=build /usr/local/bin/palisade /usr/local/bin/palisade
USER 10001
ENV PALISADE_LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["palisade"]
CMD ["serve"]
