# hooksink in an image without shell or package manager, run by a user without rights.
#
#   docker build -t hooksink .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 8080:8080 \
#     -v hooksink-data:/data -v ./hooksink.toml:/etc/hooksink/hooksink.toml:ro hooksink
#
# The image sets no HOOKSINK__ variable: the environment ranks above the file, so it would silence a user's settings.

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
# The C libraries of the kafka sink become part of the program. Of OpenSSL only the archives are shown to the linker.
ENV OPENSSL_STATIC=1 OPENSSL_LIB_DIR=/opt/openssl OPENSSL_INCLUDE_DIR=/usr/include
RUN mkdir /opt/openssl && ln -s /usr/lib/*/libssl.a /usr/lib/*/libcrypto.a /opt/openssl
# The dependencies are a layer of their own, built with an empty program, and rebuilt only when the lock file changes.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir -p src tests/it benches/throughput \
 && echo 'fn main() {}' | tee src/main.rs tests/it/main.rs benches/throughput/main.rs benches/micro.rs > src/lib.rs \
 && cargo build --release --locked --features kafka --bin hooksink \
 && cargo clean --release -p hooksink
COPY . .
RUN cargo build --release --locked --features kafka --bin hooksink \
 && mkdir -p /out/data \
 && cp target/release/hooksink /out/hooksink
# What the program loads is glibc and libgcc_s, which the image below has. Anything else ends the build here.
RUN readelf -d /out/hooksink > /out/needed \
 && grep NEEDED /out/needed \
 && ! grep NEEDED /out/needed | grep -vE '\[(libc|libm|libgcc_s|ld-linux-[a-z0-9-]+)\.so\.[0-9]+\]$'

FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="hooksink" \
      org.opencontainers.image.description="Receives Webex Connect and Meta Messenger webhooks, keeps each on disk before it answers, and hands them on" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"
COPY --from=build /out/hooksink /usr/local/bin/hooksink
# Relative paths count from here, so the default `data/journal.db` lies on the volume; nothing else is written to.
WORKDIR /
COPY --from=build --chown=65532:65532 /out/data /data
VOLUME ["/data"]
USER 65532:65532
# The public listener is 0.0.0.0:8080; the admin listener is 127.0.0.1:9090, inside the container only.
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/hooksink", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/hooksink"]
CMD ["serve"]
