# syntax=docker/dockerfile:1
# Builds the service. The final image contains only the binary, which runs as an unprivileged user.

# npm builds the explorer. The final image does not contain Node.
FROM node:24-bookworm-slim AS node

FROM rust:1.95.0-bookworm AS build
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /palisade
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/root/.npm \
    --mount=type=cache,target=/palisade/target \
    PALISADE_EXPLORER_BUILD=require cargo build --locked --release && cp target/release/palisade /usr/local/bin/palisade

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin palisade
COPY --from=build /usr/local/bin/palisade /usr/local/bin/palisade
USER 10001
ENV PALISADE_LISTEN=0.0.0.0:8080
# The API, and the health checks.
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["palisade"]
CMD ["serve"]
