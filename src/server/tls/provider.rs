//! The cryptography of TLS. No other file of `src` names the library that provides it.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs as library;

/// Returns the provider. It is passed on explicitly: a default of the process would be shared with
/// Kea and its other libraries.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(library::default_provider())
}

/// Returns the SHA-256 of these octets.
pub fn sha256(octets: &[u8]) -> Option<[u8; 32]> {
    let SupportedCipherSuite::Tls13(suite) = library::cipher_suite::TLS13_AES_128_GCM_SHA256 else {
        return None;
    };
    let hash = suite.common.hash_provider.hash(octets);
    hash.as_ref().try_into().ok()
}
