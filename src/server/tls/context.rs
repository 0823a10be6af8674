//! TLS as configured: the server's certificate, the authorities, the certificates of each requester.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::Ipv4Net;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use crate::config::{self, Config};
use crate::server::tls::files::{Files, Parameter, TlsFileError};
use crate::server::tls::handshake::HandshakeLimits;
use crate::server::tls::negotiation::Policy;
use crate::server::tls::provider::provider;
use crate::server::tls::report::TlsReport;
use crate::server::tls::verifier::ListedCertificates;

/// The most octets of authorities' names that requesters are sent, by which they may choose among their
/// certificates. A message has room for 65,535 octets, with lengths; with more names, none is sent.
const MAX_HINTS: usize = 32 * 1024;

/// The state of TLS that the connections of a server share.
pub struct TlsContext {
    /// Whether connections may or must be secured.
    policy: Policy,
    /// The configuration for requesters whose entry lists no certificates.
    common: Arc<ServerConfig>,
    /// The configurations for the other entries.
    by_entry: HashMap<Ipv4Net, Arc<ServerConfig>>,
    /// Limits of handshakes.
    limits: HandshakeLimits,
    /// The contents of the files, for an administrator.
    report: TlsReport,
}

impl fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TlsContext");
        shown
            .field("policy", &self.policy)
            .field("report", &self.report);
        shown.finish_non_exhaustive()
    }
}

impl TlsContext {
    /// Reads the files of a configuration; `None` if TLS is off.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn load(config: &Config) -> Result<Option<TlsContext>, TlsFileError> {
        let Some(tls) = &config.tls else {
            return Ok(None);
        };
        let files = Files::read(tls)?;
        let report = TlsReport::new(tls, &files);
        let provider = provider();
        let certified = Arc::new(SingleCertAndKey::from(certified(tls, &files, &provider)?));
        let valid = verifier(tls, files, &provider)?;
        let build = |verifier: Arc<dyn ClientCertVerifier>| {
            let resolver = Arc::clone(&certified) as Arc<dyn ResolvesServerCert>;
            server_config(&provider, verifier, resolver).map_err(|error| {
                let problem = format!("the certificate cannot be used: {error}");
                Parameter::CertFile.error(&tls.cert_file, problem)
            })
        };
        let mut by_entry = HashMap::new();
        for entry in &config.requesters {
            if !entry.certificates.is_empty() {
                let listed =
                    ListedCertificates::new(Arc::clone(&valid), entry.certificates.clone());
                by_entry.insert(entry.prefix, build(Arc::new(listed))?);
            }
        }
        Ok(Some(TlsContext {
            policy: match tls.is_required {
                true => Policy::Required,
                false => Policy::Allowed,
            },
            common: build(valid)?,
            by_entry,
            limits: HandshakeLimits::default(),
            report,
        }))
    }

    /// Returns what a connection of a requester of this entry may start.
    pub fn offer(self: &Arc<Self>, entry: Ipv4Net) -> TlsOffer {
        TlsOffer {
            config: Arc::clone(self.by_entry.get(&entry).unwrap_or(&self.common)),
            context: Arc::clone(self),
        }
    }

    /// Returns the contents of the files, for an administrator.
    pub fn report(&self) -> &TlsReport {
        &self.report
    }
}

/// TLS that one connection may start.
#[derive(Clone, Debug)]
pub struct TlsOffer {
    /// The shared state.
    context: Arc<TlsContext>,
    /// The configuration for the requester.
    config: Arc<ServerConfig>,
}

impl TlsOffer {
    /// Whether the connection may or must be secured.
    pub fn policy(&self) -> Policy {
        self.context.policy
    }

    /// Returns the configuration of the connection.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Returns the limits of handshakes.
    pub fn limits(&self) -> &HandshakeLimits {
        &self.context.limits
    }
}

/// Returns the server's certificate with its key.
fn certified(
    tls: &config::Tls,
    files: &Files,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsFileError> {
    use rustls::{Error, InconsistentKeys};
    let refused = |problem: &str| Parameter::KeyFile.error(&tls.key_file, problem);
    let key = provider
        .key_provider
        .load_private_key(files.key.clone_key())
        .map_err(|error| refused(&format!("the key cannot be used: {error}")))?;
    let certified = CertifiedKey::new(files.chain.clone(), key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(refused("the key is not that of the certificate")),
        Err(error) => {
            let problem = format!("the certificate cannot be read: {error}");
            Err(Parameter::CertFile.error(&tls.cert_file, problem))
        }
    }
}

/// Returns the verifier of requesters' certificates.
fn verifier(
    tls: &config::Tls,
    files: Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for (path, certificate) in files.anchors {
        roots.add(certificate).map_err(|error| {
            let problem = format!("a certificate cannot be used: {error}");
            Parameter::TrustAnchor.error(&path, problem)
        })?;
    }
    let hints: usize = roots
        .subjects()
        .iter()
        .map(|name| name.as_ref().len())
        .sum();
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .with_crls(files.revoked);
    if hints > MAX_HINTS {
        builder = builder.clear_root_hint_subjects();
    }
    if !tls.is_cert_required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| {
        let (parameter, path): (Parameter, &PathBuf) = match &tls.crl_file {
            Some(path) => (Parameter::CrlFile, path),
            None => (Parameter::TrustAnchor, &tls.trust_anchor),
        };
        parameter.error(path, error)
    })
}

/// Returns the configuration of TLS with this verifier.
fn server_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    // A resumed session would skip the check of a certificate that was revoked since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
