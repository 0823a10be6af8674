# Kea 2.6, as Debian 13 packages it.
FROM debian:trixie-slim
COPY install-kea /usr/local/sbin/
RUN install-kea
