//! TLS on a connection to a server, requested by DHCPTLS (RFC 7724 section 7.2).
//!
//! [`Tls`] has the certificates and the name of the server.
//! [`Connection::start_tls`](crate::Connection::start_tls) negotiates.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use thiserror::Error;

use crate::binding::{MalformedReply, Status, status_of};
use crate::transport::TlsStream;
use crate::wire::{BOOTREPLY, Message, MessageType, StatusCode};

/// The files of a requester. All are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates of the authorities that issue servers' certificates: a file, or a directory
    /// whose files are all read.
    pub ca: PathBuf,
    /// The requester's certificate and private key.
    pub identity: Option<IdentityFiles>,
}

/// The files by which a requester proves its identity to servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The requester's certificate, then those of intermediate authorities.
    pub certificate: PathBuf,
    /// The private key of the certificate, not encrypted: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// The requester's side of TLS: accepted authorities, the requester's own certificate, and the name in the
/// server's certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Settings of all connections.
    config: Arc<ClientConfig>,
    /// The name that the server's certificate must have.
    server_name: ServerName<'static>,
}

impl Tls {
    /// Reads the files. A server's certificate must have `server_name`, a DNS name or an IP address, as a
    /// subject alternative name.
    ///
    /// # Errors
    /// A file cannot be read or used, or the name is neither a DNS name nor an address.
    pub fn from_files(files: &TlsFiles, server_name: &str) -> Result<Tls, FileError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| FileError::Unusable(files.ca.clone(), error.to_string()))?
            .with_root_certificates(authorities(&files.ca)?);
        let mut config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some(IdentityFiles { certificate, key }) => {
                let chain = certificates(certificate)?;
                let private_key = private_key(key)?;
                builder
                    .with_client_auth_cert(chain, private_key)
                    .map_err(|error| FileError::Unusable(certificate.clone(), error.to_string()))?
            }
        };
        // A resumed session would skip the check of the certificates.
        config.resumption = Resumption::disabled();
        Ok(Tls {
            config: Arc::new(config),
            server_name: name(server_name)?,
        })
    }

    /// Performs the handshake on a socket whose peer has agreed to TLS.
    pub(crate) fn handshake(&self, mut socket: TcpStream) -> Result<TlsStream, Error> {
        let name = self.server_name.clone();
        let connection = ClientConnection::new(Arc::clone(&self.config), name);
        let mut connection = connection.map_err(|error| Error::Handshake(error.to_string()))?;
        while connection.is_handshaking() {
            connection
                .complete_io(&mut socket)
                .map_err(|error| Error::of_handshake(&error))?;
        }
        Ok(TlsStream::new(connection, socket))
    }
}

/// Reads the name of a server: a DNS name or an IP address.
///
/// # Errors
/// The name is neither.
pub(crate) fn name(name: &str) -> Result<ServerName<'static>, FileError> {
    let dns_name = name.strip_suffix('.').unwrap_or(name).to_owned();
    ServerName::try_from(dns_name).map_err(|_| FileError::ServerName(name.to_owned()))
}

/// Reads the certificates of the authorities.
fn authorities(path: &Path) -> Result<RootCertStore, FileError> {
    let read = |error| FileError::Read(path.to_path_buf(), error);
    let mut found = BTreeSet::new();
    if fs::metadata(path).map_err(read)?.is_dir() {
        for entry in fs::read_dir(path).map_err(read)? {
            let file = entry.map_err(read)?.path();
            match certificates(&file) {
                Ok(certificates) => found.extend(certificates.into_iter().map(|c| c.to_vec())),
                Err(error @ FileError::Read(..)) if file.is_file() => return Err(error),
                // Directories of certificates have other files as well.
                Err(_) => {}
            }
        }
    } else {
        found.extend(certificates(path)?.into_iter().map(|c| c.to_vec()));
    }
    let mut store = RootCertStore::empty();
    for certificate in found {
        store
            .add(CertificateDer::from(certificate))
            .map_err(|error| FileError::Unusable(path.to_path_buf(), error.to_string()))?;
    }
    match store.is_empty() {
        true => Err(FileError::NoCertificate(path.to_path_buf())),
        false => Ok(store),
    }
}

/// Reads the certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let octets = fs::read(path).map_err(|error| FileError::Read(path.to_path_buf(), error))?;
    let certificates: Result<Vec<_>, pem::Error> =
        CertificateDer::pem_slice_iter(&octets).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(FileError::NoCertificate(path.to_path_buf()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(FileError::Unusable(path.to_path_buf(), error.to_string())),
    }
}

/// Reads the private key of a file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let octets = fs::read(path).map_err(|error| FileError::Read(path.to_path_buf(), error))?;
    match PrivateKeyDer::from_pem_slice(&octets) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(FileError::NoKey(path.to_path_buf())),
        Err(error) => Err(FileError::Unusable(path.to_path_buf(), error.to_string())),
    }
}

/// Checks the reply to a DHCPTLS (RFC 7724 section 7.2): no status, or Success with a text.
pub(crate) fn check_reply(reply: &Message) -> Result<(), Error> {
    if reply.op != BOOTREPLY {
        return Err(MalformedReply::Op(reply.op).into());
    }
    let message_type = reply.message_type().ok_or(MalformedReply::NoMessageType)?;
    if message_type != MessageType::TLS {
        return Err(Error::OtherReply(message_type));
    }
    match status_of(reply)? {
        Some(status) if status.code != StatusCode::SUCCESS => Err(Error::Refused(status)),
        _ => Ok(()),
    }
}

// ------------ Errors ----------------------------------------------------------------------

/// The reason why files cannot be used for TLS.
#[derive(Debug, Error)]
pub enum FileError {
    /// A file or directory cannot be read.
    #[error("{}: {}", .0.display(), .1)]
    Read(PathBuf, #[source] io::Error),
    /// No file has a certificate.
    #[error("{}: no certificate in PEM format", .0.display())]
    NoCertificate(PathBuf),
    /// The file has no private key.
    #[error("{}: no private key in PEM format that is not encrypted", .0.display())]
    NoKey(PathBuf),
    /// A certificate or key is damaged, of a kind that is not supported, or they do not belong together.
    #[error("{}: {}", .0.display(), .1)]
    Unusable(PathBuf, String),
    /// The server's name is neither a DNS name nor an IP address.
    #[error("`{0}` is neither a DNS name nor an IP address, so no certificate can have it")]
    ServerName(String),
}

/// The reason why a connection has no TLS. It is closed (RFC 7724 section 7.2).
#[derive(Debug, Error)]
pub enum Error {
    /// The server answered by a status, such as TLSConnectionRefused.
    #[error("the server refuses TLS: {0}")]
    Refused(Status),
    /// The server closed the connection instead of a reply.
    #[error("the server closed the connection after DHCPTLS")]
    Closed,
    /// The server sent no reply, or stopped sending in the handshake.
    #[error("the server did not answer DHCPTLS or the TLS handshake within {0} s")]
    NoAnswer(f64),
    /// The server answered by a message of another type.
    #[error("the server answered DHCPTLS by {0}")]
    OtherReply(MessageType),
    /// The reply is malformed.
    #[error("the server answered DHCPTLS by a malformed message: {0}")]
    Malformed(#[from] MalformedReply),
    /// Octets that are not encrypted followed the reply. They are not of the handshake, and an attacker
    /// may have sent them.
    #[error("the server sent {0} octets in plain text behind its answer to DHCPTLS")]
    PlainOctets(usize),
    /// The connection has carried other messages.
    #[error("TLS must be requested before all queries, and once")]
    NotFirst,
    /// The server's certificate was not accepted.
    #[error("the server's certificate is not accepted: {0}")]
    Certificate(String),
    /// The server ended the handshake, for instance since it does not accept the requester's certificate.
    #[error("the server ended TLS: {0}")]
    Alert(String),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
    /// Records that follow the handshake were damaged or are not allowed.
    #[error("TLS failed: {0}")]
    Record(String),
}

impl Error {
    /// Returns the meaning of an error in the handshake.
    fn of_handshake(error: &io::Error) -> Error {
        match (violation(error), error.kind()) {
            (Some(error), _) => Error::of_rustls(error, Error::Handshake),
            (None, io::ErrorKind::UnexpectedEof) => {
                Error::Handshake("the server closed the connection".into())
            }
            (None, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Error::NoAnswer(0.0),
            (None, _) => Error::Handshake(error.to_string()),
        }
    }

    /// Returns the meaning of an error behind the handshake; `None` if it is not one of TLS.
    pub(crate) fn of_record(error: &io::Error) -> Option<Error> {
        violation(error).map(|error| Error::of_rustls(error, Error::Record))
    }

    /// Returns the meaning of an error of TLS, of which `other` has those that have no meaning of their
    /// own.
    fn of_rustls(error: &rustls::Error, other: fn(String) -> Error) -> Error {
        match error {
            rustls::Error::InvalidCertificate(reason) => Error::Certificate(reason.to_string()),
            rustls::Error::AlertReceived(alert) => Error::Alert(format!("{alert:?}")),
            error => other(error.to_string()),
        }
    }

    /// Returns the error with the time that passed, if it is about a time.
    pub(crate) fn after(self, timeout: Duration) -> Error {
        match self {
            Error::NoAnswer(_) => Error::NoAnswer(timeout.as_secs_f64()),
            other => other,
        }
    }
}

/// Returns the error of TLS in an error of the socket.
fn violation(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::code;
    use proptest::prelude::*;

    proptest! {
        /// No reply to DHCPTLS but one without a failure is an agreement, and none makes decoding panic.
        #[test]
        fn agrees_to_tls_by_its_type_and_status_alone(
            op in any::<u8>(),
            message_type in any::<u8>(),
            status in prop::option::of(prop::collection::vec(any::<u8>(), 0..4)),
        ) {
            let mut reply = Message::new(op, 1, MessageType(message_type));
            if let Some(value) = status.clone() {
                reply = reply.with(code::STATUS_CODE, value);
            }
            let is_success = status.is_none_or(|value| value.first() == Some(&0));
            let is_agreement = op == 2 && message_type == 18 && is_success;
            prop_assert_eq!(check_reply(&reply).is_ok(), is_agreement);
        }

        /// A directory of authorities has files of any contents.
        #[test]
        fn survives_any_file(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let text = [b"-----BEGIN CERTIFICATE-----\n", &octets[..],
                b"\n-----END CERTIFICATE-----\n"].concat();
            for contents in [octets, text] {
                fs::write(file.path(), contents).unwrap();
                let _ = authorities(file.path());
                let _ = private_key(file.path());
            }
        }
    }
}
