# Kea 2.2, as Debian 12 packages it.
FROM debian:bookworm-slim
COPY install-kea /usr/local/sbin/
RUN install-kea
