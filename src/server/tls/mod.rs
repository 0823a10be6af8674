//! TLS on connections: DHCPTLS, handshakes, certificates, records (RFC 7724 sections 5.1, 8.1 and 9).
//!
//! - [`context`]: TLS as configured.
//! - [`files`]: the files of certificates and keys.
//! - [`report`]: their contents, for an administrator.
//! - `verifier`: the certificates that a requester may present.
//! - [`provider`]: the cryptography.
//! - [`negotiation`]: the first message of a connection.
//! - [`handshake`]: handshakes and their limits.
//! - [`peer`]: the requester at the other end.
//! - [`stream`]: a connection secured by TLS.
//! - `records`: one message in each record.
//!
//! Handshakes and records are computed by the threads that serve connections, never by Kea's. The
//! memory of a secured connection is larger by the ciphertext to be sent (64 KiB) and that
//! received (at most 80 KiB in a handshake, 36 KiB after it).

pub mod context;
pub mod files;
pub mod handshake;
pub mod negotiation;
pub mod peer;
pub mod provider;
pub mod report;
pub mod stream;

mod records;
mod verifier;
