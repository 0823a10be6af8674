# Kea 2.6 as Debian 13 packages it, with the older of its two packages of Rust: the minimum version.
FROM debian:trixie-slim
COPY install-kea /usr/local/sbin/
RUN install-kea cargo
