//! The parameters of TLS (RFC 7724 section 8.1), and the certificates of requesters.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::Value;

use crate::config::section::{ConfigError, Section, refused};

/// The parameters of `advanced` about TLS.
pub(super) const PARAMETERS: [&str; 6] =
    [MODE, FILES[0], FILES[1], FILES[2], CERT_REQUIRED, REVOKED];
/// `tls`: whether connections may, or must, use TLS. Default: `allowed` with the files, else `off`.
const MODE: &str = "tls";
/// The files of TLS, all of which it needs; with Kea's meaning.
const FILES: [&str; 3] = ["trust-anchor", "cert-file", "key-file"];
/// `cert-required`: whether a requester needs a certificate. Default: true.
const CERT_REQUIRED: &str = "cert-required";
/// `crl-file`: revoked certificates. Default: none.
const REVOKED: &str = "crl-file";

/// Parameters of TLS, unless it is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Whether every connection must use TLS; otherwise requesters choose.
    pub is_required: bool,
    /// The certificates of the authorities that requesters' certificates are from: a PEM file or a directory.
    pub trust_anchor: PathBuf,
    /// The server's certificate and those between it and its authority: a PEM file.
    pub cert_file: PathBuf,
    /// The private key of the server's certificate, not encrypted: a PEM file.
    pub key_file: PathBuf,
    /// Certificates revoked by their authorities: a PEM file of revocation lists.
    pub crl_file: Option<PathBuf>,
    /// Whether requesters need a certificate for Bulk Leasequery. Active Leasequery always demands one (RFC 7724
    /// section 8.1).
    pub is_cert_required: bool,
}

impl Tls {
    /// Reads the parameters; `None` if TLS is off.
    ///
    /// # Errors
    /// A wrong type, a value that is not allowed, or a file that others need is missing.
    pub(super) fn read(advanced: &Section) -> Result<Option<Tls>, ConfigError> {
        let [trust_anchor, cert_file, key_file] = FILES.map(|name| path(advanced, name));
        let files = [trust_anchor?, cert_file?, key_file?];
        let crl_file = path(advanced, REVOKED)?;
        let is_cert_required = advanced.boolean(CERT_REQUIRED)?;
        let mode = mode(advanced)?;
        let named = |is_given: bool| {
            let files = FILES.iter().zip(&files);
            let names = files.filter(move |(_, file)| file.is_some() == is_given);
            names.map(|(name, _)| format!("'{}'", advanced.parameter(name)))
        };
        let missing = named(false).collect::<Vec<_>>().join(", ");
        // A protection that is asked for must not be missing silently.
        let revoked = crl_file
            .as_ref()
            .map(|_| format!("'{}'", advanced.parameter(REVOKED)));
        let given = named(true).next().or(revoked);
        let [Some(trust_anchor), Some(cert_file), Some(key_file)] = files else {
            let refused = |name, value: Value, allowed: &str| {
                let allowed = format!("{allowed}, or given with {missing}, which TLS needs");
                Err(refused(&advanced.parameter(name), &value, allowed))
            };
            return match (given, mode) {
                (Some(given), _) => Err(ConfigError(format!(
                    "parameter {given} is given without {missing}: TLS needs a trust anchor, a certificate and a key"
                ))),
                (None, Some(mode)) if mode != Mode::Off => {
                    refused(MODE, mode.name().into(), "\"off\"")
                }
                _ if is_cert_required == Some(true) => {
                    refused(CERT_REQUIRED, Value::Bool(true), "false")
                }
                _ => Ok(None),
            };
        };
        let mode = mode.unwrap_or(Mode::Allowed);
        Ok((mode != Mode::Off).then(|| Tls {
            is_required: mode == Mode::Required,
            trust_anchor,
            cert_file,
            key_file,
            crl_file,
            is_cert_required: is_cert_required.unwrap_or(true),
        }))
    }

    /// Returns the parameters of TLS that are given, with their full names.
    pub(super) fn given(advanced: &Section) -> Vec<String> {
        let given = PARAMETERS.into_iter().filter(|name| advanced.has(name));
        let quoted = given.map(|name| format!("'{}'", advanced.parameter(name)));
        quoted.collect()
    }
}

/// The values of `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// No connection uses TLS.
    Off,
    /// Requesters choose.
    Allowed,
    /// Every connection uses TLS.
    Required,
}

impl Mode {
    /// Every value.
    const ALL: [Mode; 3] = [Mode::Off, Mode::Allowed, Mode::Required];

    /// Returns the value in configurations.
    fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Allowed => "allowed",
            Mode::Required => "required",
        }
    }
}

/// Reads `tls`.
fn mode(advanced: &Section) -> Result<Option<Mode>, ConfigError> {
    const ALLOWED: &str = "\"off\", \"allowed\" or \"required\"";
    advanced.typed(MODE, ALLOWED, |value| {
        let name = value.as_str()?;
        Mode::ALL.into_iter().find(|mode| mode.name() == name)
    })
}

/// Reads a parameter that is a path; `None` also for an empty one, as in Kea.
fn path(advanced: &Section, name: &str) -> Result<Option<PathBuf>, ConfigError> {
    let path = advanced.typed(name, "a string, the path of a file", |value| {
        let path = value.as_str()?;
        (!path.contains('\0')).then_some(path)
    })?;
    Ok(path.filter(|path| !path.is_empty()).map(PathBuf::from))
}

/// A certificate that a requester may present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateMatch {
    /// One with this subject alternative name, in lower case; `*.` at the beginning stands for one label.
    Name(String),
    /// The one whose DER form has this SHA-256 digest.
    Sha256([u8; 32]),
}

/// The form of a fingerprint.
const FINGERPRINT: &str = "sha256:";
/// Allowed elements of `certificates`.
const ALLOWED_CERTIFICATE: &str = "a DNS name like \"bng1.example.net\" or \"*.example.net\", or \"sha256:\" and 64 \
    hexadecimal digits";

/// Reads `certificates` of a requester; empty without them, which allows every certificate of the trust anchor.
pub(super) fn certificates(section: &Section) -> Result<Vec<CertificateMatch>, ConfigError> {
    const NAME: &str = "certificates";
    let allowed = format!("a list with at least one of: {ALLOWED_CERTIFICATE}");
    let list = section.list(NAME, &allowed)?.unwrap_or_default();
    let read = |(index, value): (usize, &Value)| {
        let matched = value.as_str().and_then(certificate);
        let parameter = || format!("{}[{index}]", section.parameter(NAME));
        matched.ok_or_else(|| refused(&parameter(), value, ALLOWED_CERTIFICATE))
    };
    list.iter().enumerate().map(read).collect()
}

/// Reads one of `certificates`; `None` if it is not allowed.
fn certificate(text: &str) -> Option<CertificateMatch> {
    let prefix = text.get(..FINGERPRINT.len()).unwrap_or_default();
    if prefix.eq_ignore_ascii_case(FINGERPRINT) {
        let digits = text.get(FINGERPRINT.len()..)?;
        return Some(CertificateMatch::Sha256(digest(digits)?));
    }
    let rest = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    // Certificates have addresses in another form, which is not compared.
    let is_address = text.parse::<Ipv4Addr>().is_ok();
    let is_name = text.len() <= 253 && rest.split('.').all(is_label) && !is_address;
    is_name.then(|| CertificateMatch::Name(text.to_ascii_lowercase()))
}

/// Reads a digest: 64 hexadecimal digits, with or without colons.
fn digest(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.chars().filter(|character| *character != ':');
    let digits: Vec<u8> = digits
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect::<Option<_>>()?;
    let octets = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    });
    <[u8; 32]>::try_from(octets.collect::<Option<Vec<u8>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_fingerprints() {
        let digits = "AB".repeat(32);
        let colons = format!("{}ab", "aB:".repeat(31));
        let name = |name: &str| Some(CertificateMatch::Name(name.to_owned()));
        for (text, expected) in [
            ("bng1.example.net", name("bng1.example.net")),
            ("*.Example.net", name("*.example.net")),
            ("bng", name("bng")),
            ("192.0.2.1", None),
            (
                &format!("sha256:{digits}"),
                Some(CertificateMatch::Sha256([0xab; 32])),
            ),
            (
                &format!("SHA256:{colons}"),
                Some(CertificateMatch::Sha256([0xab; 32])),
            ),
            (&format!("sha256:{digits}a"), None),
            (&format!("sha256:{}", &digits[1..]), None),
            ("sha256:", None),
            ("", None),
            ("*", None),
            ("*.", None),
            ("a.*.net", None),
            ("b*.example.net", None),
            ("*.*.example.net", None),
            ("a b", None),
            ("a..b", None),
            ("example.net.", None),
        ] {
            assert_eq!(certificate(text), expected, "{text}");
        }
    }
}
