# Kea 3.0 from Debian 13's backports, with the newer of Debian 13's two packages of Rust.
FROM debian:trixie-slim
COPY install-kea /usr/local/sbin/
RUN install-kea cargo-web trixie-backports
