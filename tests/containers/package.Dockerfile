# Debian's tools for building and checking packages, beside a Kea and its headers.
ARG BASE
FROM ${BASE}
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        build-essential debhelper lintian man-db && \
    apt-get clean && rm -rf /var/lib/apt/lists/*
