//! The contents of the files of TLS, for an administrator.

use std::path::PathBuf;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_cert::certificate::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode;

use crate::config;
use crate::model::time::Time;
use crate::server::tls::files::Files;
use crate::server::tls::verifier::all_names;

/// The time before the end of the server's certificate from which there is a warning: enough to
/// renew it by hand.
pub const WARNING_DAYS: u64 = 30;

/// A day, in seconds.
const DAY: u64 = 24 * 3600;

/// The contents of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsReport {
    /// Whether every connection must be secured.
    pub is_required: bool,
    /// Whether a requester must present a certificate.
    pub is_cert_required: bool,
    /// The file or directory of trust anchors.
    pub trust_anchor: FileReport,
    /// The file of the server's certificate.
    pub cert_file: FileReport,
    /// The DNS names of the server's certificate.
    pub names: Vec<String>,
    /// The file of the private key.
    pub key_file: PathBuf,
    /// The file of revocation lists, if there is one.
    pub crl_file: Option<FileReport>,
}

/// The contents of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The file or directory.
    pub path: PathBuf,
    /// The certificates or lists in it.
    pub count: usize,
    /// The end of the one that ends first; of a revocation list the time of the next one. `None` if
    /// none has an end that can be read.
    pub ends: Option<End>,
}

/// The end of a certificate (notAfter), or the time of the next revocation list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Seconds since 1970.
    pub seconds: u64,
    /// The time, as ISO 8601 writes it.
    pub text: String,
}

impl From<x509_cert::time::Time> for End {
    fn from(time: x509_cert::time::Time) -> End {
        End {
            seconds: time.to_unix_duration().as_secs(),
            text: time.to_date_time().to_string(),
        }
    }
}

impl End {
    /// Returns the days until the end; 0 on the last day, `None` if it has passed.
    pub fn days_left(&self, now: Time) -> Option<u64> {
        let left = self.seconds.checked_sub(now.0.into())?;
        Some(left / DAY)
    }

    /// Whether the end is so near, or past, that there is a warning.
    pub fn is_near(&self, now: Time) -> bool {
        self.days_left(now).is_none_or(|days| days < WARNING_DAYS)
    }
}

impl TlsReport {
    /// Describes the files.
    pub fn new(tls: &config::Tls, files: &Files) -> TlsReport {
        let anchors = files.anchors.iter().map(|(_, certificate)| certificate);
        TlsReport {
            is_required: tls.is_required,
            is_cert_required: tls.is_cert_required,
            trust_anchor: FileReport {
                path: tls.trust_anchor.clone(),
                count: files.anchors.len(),
                ends: anchors.filter_map(end).min(),
            },
            cert_file: FileReport {
                path: tls.cert_file.clone(),
                count: files.chain.len(),
                ends: files.chain.iter().filter_map(end).min(),
            },
            names: match files.chain.first() {
                Some(own) => all_names(own),
                None => Vec::new(),
            },
            key_file: tls.key_file.clone(),
            crl_file: tls.crl_file.as_ref().map(|path| FileReport {
                path: path.clone(),
                count: files.revoked.len(),
                ends: files.revoked.iter().filter_map(next).min(),
            }),
        }
    }

    /// Logs warnings about files that will soon be useless, or are.
    pub fn log_warnings(&self) {
        for (id, text) in self.warnings(Time::now()) {
            tracing::warn!(id, "{text}");
        }
    }

    /// Returns warnings, each with the identifier of its log message: about the end of the server's
    /// certificate, and about revocation lists of which the next ones are out.
    pub fn warnings(&self, now: Time) -> Vec<(&'static str, String)> {
        let mut warnings = Vec::new();
        if let Some(end) = self.cert_file.ends.as_ref().filter(|end| end.is_near(now)) {
            let when = match end.days_left(now) {
                Some(0) => format!("ends within a day, at {}", end.text),
                Some(days) => format!("ends in {days} days, at {}", end.text),
                None => format!(
                    "has ended at {}: requesters will refuse TLS connections",
                    end.text
                ),
            };
            let path = &self.cert_file.path;
            let text = format!("the certificate in 'advanced.cert-file' ({path:?}) {when}");
            warnings.push(("BLQ_TLS_CERTIFICATE_ENDS", text));
        }
        let lists = self.crl_file.as_ref();
        let next = lists.and_then(|lists| Some((&lists.path, lists.ends.as_ref()?)));
        if let Some((path, next)) = next.filter(|(_, next)| next.days_left(now).is_none()) {
            let text = format!(
                "a revocation list in 'advanced.crl-file' ({path:?}) is obsolete since {}: \
                 certificates revoked since then are accepted",
                next.text
            );
            warnings.push(("BLQ_TLS_CRL_OBSOLETE", text));
        }
        warnings
    }
}

/// Returns the end of a certificate.
fn end(certificate: &CertificateDer<'_>) -> Option<End> {
    let certificate = Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate().validity().not_after.into())
}

/// Returns the time of the revocation list after this one.
fn next(list: &CertificateRevocationListDer<'_>) -> Option<End> {
    let list: CertificateList = CertificateList::from_der(list).ok()?;
    Some(list.tbs_cert_list.next_update?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_of_ends_from_thirty_days_before() {
        let end = End {
            seconds: 100 * DAY,
            text: String::new(),
        };
        for (now, left, is_near) in [
            (70 * DAY, Some(30), false),
            (70 * DAY + 1, Some(29), true),
            (100 * DAY, Some(0), true),
            (100 * DAY + 1, None, true),
        ] {
            let now = Time(u32::try_from(now).unwrap());
            assert_eq!(end.days_left(now), left);
            assert_eq!(end.is_near(now), is_near);
        }
    }
}
