//! Connections that requesters secure by TLS, over real sockets (RFC 7724 sections 5.1, 8.1 and 9).

#[path = "../support/certificates.rs"]
mod certificates;
#[path = "../support/fake_engine.rs"]
mod fake_engine;
#[path = "../support/loopback.rs"]
mod loopback;
#[path = "../support/recorded_log.rs"]
mod recorded_log;
#[path = "../support/tls_client.rs"]
mod tls_client;

mod access;
mod client;
mod files;
mod log;
mod negotiation;
mod openssl;
mod records;
