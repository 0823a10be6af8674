//! Connections that requesters secure by TLS, over real sockets (RFC 7724 sections 5.1, 8.1 and 9).

#[path = "../support/certificates.rs"]
mod certificates;
#[path = "../support/fake_engine.rs"]
mod fake_engine;

mod access;
mod client;
mod files;
mod log;
mod negotiation;
mod openssl;
mod records;
