//! Certificates, and the server's side of TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blq::wire::BOOTREPLY;
use blq::{Message, MessageType};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::Peer;

/// An authority, with a directory for files.
pub struct Authority {
    /// Issues certificates.
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The directory.
    pub directory: TempDir,
}

/// A certificate and its key.
pub struct Identity {
    /// The certificate.
    certificate: Certificate,
    /// The key.
    key: KeyPair,
}

impl Authority {
    /// Returns a new authority.
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority {
            issuer,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Issues a certificate for these DNS names and IP addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        self.issue_with(CertificateParams::new(names).unwrap())
    }

    /// Issues a certificate that ended long ago.
    pub fn issue_expired(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        self.issue_with(params)
    }

    /// Issues a certificate.
    fn issue_with(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate, key }
    }

    /// Returns the path of a file in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the authority's certificate into a file.
    pub fn write(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, self.issuer.pem()).unwrap();
        path
    }

    /// Writes the files of an identity: its certificate and its key.
    pub fn write_identity(&self, identity: &Identity, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (
            self.path(&format!("{name}.crt")),
            self.path(&format!("{name}.key")),
        );
        fs::write(&certificate, identity.certificate.pem()).unwrap();
        fs::write(&key, identity.key.serialize_pem()).unwrap();
        (certificate, key)
    }

    /// Returns a server's settings, with this authority's clients if certificates are required.
    pub fn server(&self, identity: &Identity, requires_certificate: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if requires_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain: Vec<CertificateDer<'static>> = vec![identity.certificate.der().clone()];
        let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }
}

/// The server's end of TLS.
pub type TlsPeer = Peer<StreamOwned<ServerConnection, TcpStream>>;

/// Returns a DHCPTLS without a status.
pub fn agreement(xid: u32) -> Message {
    Message::new(BOOTREPLY, xid, MessageType::TLS)
}

/// Reads a DHCPTLS, and agrees to TLS.
pub fn agree(mut peer: Peer, config: &Arc<ServerConfig>) -> TlsPeer {
    let request = peer.read();
    // RFC 7724 section 7.2: without any options.
    assert_eq!(request.options, [(53, vec![18])]);
    peer.send(&[agreement(request.xid)]);
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    Peer {
        stream: StreamOwned::new(connection, peer.stream),
    }
}

impl TlsPeer {
    /// Ends TLS by close_notify, and the connection.
    pub fn close(mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().unwrap();
        let mut rest = Vec::new();
        // The requester answers by its own close_notify.
        self.stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

/// Returns a path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
