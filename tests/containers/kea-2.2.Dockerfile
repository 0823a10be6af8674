# Kea 2.2 and Rust as Debian 12 packages them.
FROM debian:bookworm-slim
COPY install-kea /usr/local/sbin/
RUN install-kea cargo-web
