//! The certificates that a requester may present (RFC 7724 sections 8.1 and 9).

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::EndEntityCert;

use crate::config::CertificateMatch;
use crate::model::hex::Hex;
use crate::server::tls::provider::sha256;

/// The most names of a certificate in a log message.
const SHOWN_NAMES: usize = 4;

/// Accepts valid certificates that are in a list, in the handshake. One must be presented, whatever
/// `cert-required` says.
#[derive(Debug)]
pub struct ListedCertificates {
    /// Checks the validity.
    valid: Arc<dyn ClientCertVerifier>,
    /// The list; not empty.
    listed: Vec<CertificateMatch>,
}

impl ListedCertificates {
    /// Creates a verifier that accepts those certificates in `listed` that `valid` accepts.
    pub fn new(valid: Arc<dyn ClientCertVerifier>, listed: Vec<CertificateMatch>) -> Self {
        ListedCertificates { valid, listed }
    }
}

impl ClientCertVerifier for ListedCertificates {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.valid.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .valid
            .verify_client_cert(end_entity, intermediates, now)?;
        match is_listed(end_entity, &self.listed) {
            true => Ok(verified),
            false => {
                let error = OtherError(Arc::new(NotListed(description(end_entity))));
                Err(Error::InvalidCertificate(CertificateError::Other(error)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.valid
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.valid
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.valid.supported_verify_schemes()
    }
}

/// A valid certificate that is not in the list.
#[derive(Debug)]
struct NotListed(String);

impl fmt::Display for NotListed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the certificate of {} is not in 'certificates' of its entry in 'requesters'",
            self.0
        )
    }
}

impl std::error::Error for NotListed {}

/// Returns the DNS names in the subject alternative names of a certificate.
pub fn all_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    certificate.valid_dns_names().map(str::to_owned).collect()
}

/// Returns the DNS names of a certificate without wildcards, which identify no single requester.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let mut names = all_names(certificate);
    names.retain(|name| !name.contains('*'));
    names
}

/// Returns the name of a certificate for an administrator: its first DNS name, otherwise its SHA-256.
pub fn name(certificate: &CertificateDer<'_>) -> String {
    let first = names(certificate).into_iter().next();
    first.unwrap_or_else(|| fingerprint(certificate))
}

/// Describes a certificate by its names and its SHA-256, as they would be listed.
fn description(certificate: &CertificateDer<'_>) -> String {
    let names = names(certificate);
    let shown = names.iter().take(SHOWN_NAMES);
    let mut parts: Vec<String> = shown.map(|name| format!("\"{name}\"")).collect();
    if names.len() > SHOWN_NAMES {
        parts.push("others".to_owned());
    }
    parts.push(fingerprint(certificate));
    parts.join(", ")
}

/// Returns the SHA-256 of a certificate, as it is configured.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let hash = sha256(certificate);
    let octets = hash.as_ref().map(<[u8; 32]>::as_slice);
    format!("sha256:{}", Hex(octets.unwrap_or_default()))
}

/// Whether a certificate is in a list.
fn is_listed(certificate: &CertificateDer<'_>, listed: &[CertificateMatch]) -> bool {
    let names = names(certificate);
    let hash = sha256(certificate);
    listed.iter().any(|listed| match listed {
        CertificateMatch::Name(pattern) => names.iter().any(|name| matches(pattern, name)),
        CertificateMatch::Sha256(listed) => hash.as_ref() == Some(listed),
    })
}

/// Whether a name matches a listed one, in which "*." stands for any first label.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern.eq_ignore_ascii_case(name),
        Some(rest) => name
            .split_once('.')
            .is_some_and(|(label, parent)| !label.is_empty() && parent.eq_ignore_ascii_case(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_exactly_or_by_one_label() {
        for (pattern, name, expected) in [
            ("bng1.example.net", "bng1.example.net", true),
            ("bng1.example.net", "BNG1.Example.NET", true),
            ("bng1.example.net", "bng1.example.net.evil.example", false),
            ("bng1.example.net", "xbng1.example.net", false),
            ("*.example.net", "bng1.example.net", true),
            ("*.Example.net", "BNG1.example.net", true),
            ("*.example.net", "a.bng1.example.net", false),
            ("*.example.net", "example.net", false),
            ("*.example.net", ".example.net", false),
            ("*.example.net", "bng1.example.org", false),
            ("*.example.net", "bng1xexample.net", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
