# syntax=docker/dockerfile:1
# The shim's image: one program, on a base without a shell, run by a user who owns nothing and needs to write nothing.
#
#   docker buildx build --platform linux/arm64 --file infra/shim.Dockerfile --tag earpiece-shim:0.1.0 .
#
# The platform is the `architecture` of the CDK app. On a machine of another kind it is emulated, which takes long;
# build where the kind fits, as CI does.

FROM rust:1.95.0-bookworm AS build
# The image has this toolchain. rust-toolchain.toml asks for lints and formatting, too, which a build does not need.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
# The target folder is a cache and no layer, so the program is taken out of it in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release --package earpiece-shim --bin earpiece-shim \
    && install -D -m 0555 target/release/earpiece-shim /out/earpiece-shim

# glibc and libgcc of the same Debian, certificates, and no more: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="earpiece-shim" \
      org.opencontainers.image.description="Carries CXone's audio sockets to an agent assist app" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/earpiece-shim /earpiece-shim
# nonroot of the base, as a number, so that whoever runs it can see that it is not root.
USER 65532:65532
EXPOSE 8080
# No HEALTHCHECK: there is nothing in here to run one with. The load balancer asks /healthz.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/earpiece-shim"]
