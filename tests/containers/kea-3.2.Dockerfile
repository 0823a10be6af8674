# Kea 3.2 from ISC's public packages for Debian 13, with the newer of Debian 13's two packages of Rust.
FROM debian:trixie-slim
COPY install-kea /usr/local/sbin/
RUN install-kea cargo-web isc/kea-3-2
