# Kea 3.0, from Debian 13's backports.
FROM debian:trixie-slim
COPY install-kea /usr/local/sbin/
RUN install-kea trixie-backports
