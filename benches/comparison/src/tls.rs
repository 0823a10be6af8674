//! TLS: the certificates of a measurement, and the requester's side.
//!
//! The cryptography is that of the server, so that both can be compared with what rustls does alone.

use std::fs;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blq::wire::BOOTREQUEST;
use blq::{Message, MessageType};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Result;

/// The parameters of the server's files, and the files in the directory.
const FILES: [(&str, &str); 3] = [
    ("trust-anchor", "authority.pem"),
    ("cert-file", "server.pem"),
    ("key-file", "server.key"),
];

/// The name in the server's certificate.
const SERVER_NAME: &str = "dhcp.example.net";

/// Octets of ciphertext read from a socket at once.
const BUFFER: usize = 512 * 1024;

/// Certificates of a server and of a requester, from one authority.
#[derive(Debug)]
pub struct Credentials {
    /// The directory of the server's files.
    directory: TempDir,
    /// The settings of a requester, which presents its certificate.
    pub requester: Arc<ClientConfig>,
    /// The settings of a server of rustls alone, which demands one.
    pub server: Arc<ServerConfig>,
}

impl Credentials {
    /// Creates the certificates, and writes the server's files.
    pub fn new() -> Result<Credentials> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let issue = |name: &str| -> Result<_> {
            let key = KeyPair::generate()?;
            let params = CertificateParams::new(vec![name.to_owned()])?;
            Ok((params.signed_by(&key, &authority)?, key))
        };
        let (certificate, key) = issue(SERVER_NAME)?;
        let directory = tempfile::tempdir()?;
        let contents = [authority.pem(), certificate.pem(), key.serialize_pem()];
        for ((_, file), text) in FILES.iter().zip(contents) {
            fs::write(directory.path().join(file), text)?;
        }
        let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let roots = Arc::new(roots);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], private(&key)?)?;
        // As the server of the library.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let (certificate, key) = issue("requester.example.net")?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let mut requester = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private(&key)?)?;
        requester.resumption = Resumption::disabled();
        Ok(Credentials {
            directory,
            requester: Arc::new(requester),
            server: Arc::new(server),
        })
    }

    /// The directory of the server's files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Handshakes between both sides of rustls alone, on this thread.
    pub fn handshake_alone(&self) -> Result<()> {
        let mut server = ServerConnection::new(Arc::clone(&self.server))?;
        let mut requester = self.session()?;
        while server.is_handshaking() || requester.is_handshaking() {
            let mut octets = Vec::new();
            while requester.wants_write() {
                requester.write_tls(&mut octets)?;
            }
            let mut rest = &octets[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest)?;
                server.process_new_packets()?;
            }
            octets.clear();
            while server.wants_write() {
                server.write_tls(&mut octets)?;
            }
            let mut rest = &octets[..];
            while !rest.is_empty() {
                requester.read_tls(&mut rest)?;
                requester.process_new_packets()?;
            }
        }
        Ok(())
    }

    /// The state of a requester before the handshake.
    fn session(&self) -> Result<ClientConnection> {
        let name = ServerName::try_from(SERVER_NAME)?;
        Ok(ClientConnection::new(Arc::clone(&self.requester), name)?)
    }
}

/// The parameters of a server that name its files in a directory.
pub fn parameters(directory: &Path) -> impl Iterator<Item = (&'static str, Value)> {
    let path = |file: &str| -> PathBuf { directory.join(file) };
    FILES
        .map(|(parameter, file)| (parameter, json!(path(file))))
        .into_iter()
}

/// The private key of a certificate.
fn private(key: &KeyPair) -> Result<PrivateKeyDer<'static>> {
    Ok(PrivateKeyDer::try_from(key.serialize_der())?)
}

/// A requester's end of a connection that TLS secures.
#[derive(Debug)]
pub struct Secured {
    /// The state of TLS.
    session: ClientConnection,
    /// The socket. rustls reads 4 KiB at once.
    socket: BufReader<TcpStream>,
}

impl Secured {
    /// Agrees on TLS by DHCPTLS (RFC 7724 section 7.2), and performs the handshake.
    pub fn negotiate(mut socket: TcpStream, credentials: &Credentials) -> Result<Secured> {
        let query = Message::new(BOOTREQUEST, 1, MessageType::TLS);
        socket.write_all(&query.to_frame()?)?;
        let mut size = [0; 2];
        socket.read_exact(&mut size)?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(size))];
        socket.read_exact(&mut reply)?;
        let reply = Message::decode(&reply)?;
        let is_refused = reply.joined().contains_key(&blq::wire::code::STATUS_CODE);
        if reply.message_type() != Some(MessageType::TLS) || is_refused {
            return Err(format!("the server answers DHCPTLS by {reply:?}").into());
        }
        Secured::handshake(socket, credentials)
    }

    /// Performs the handshake with a server of rustls alone.
    pub fn handshake(mut socket: TcpStream, credentials: &Credentials) -> Result<Secured> {
        let mut session = credentials.session()?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Secured {
            session,
            socket: BufReader::with_capacity(BUFFER, socket),
        })
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// Ends the connection. The server's answer shows that the handshake was complete there, too.
    pub fn close(mut self) -> Result<()> {
        self.session.send_close_notify();
        self.flush()?;
        self.socket().shutdown(Shutdown::Write)?;
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err("the server sends octets that nobody asked for".into()),
        }
    }
}

impl Read for Secured {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(space) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.session.read_tls(&mut self.socket)?;
            self.session
                .process_new_packets()
                .map_err(io::Error::other)?;
        }
    }
}

impl Write for Secured {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let length = self.session.writer().write(octets)?;
        self.flush()?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(self.socket.get_mut())?;
        }
        Ok(())
    }
}

/// The sender's end of rustls alone: encrypts messages, one in each record.
#[derive(Debug)]
pub struct Records {
    /// The state of TLS.
    session: ServerConnection,
    /// The socket.
    socket: TcpStream,
    /// Ciphertext to be written.
    ciphertext: Vec<u8>,
}

/// Octets of ciphertext written at once: as many as the system sends in one piece.
const WRITE: usize = 64 * 1024;

impl Records {
    /// Performs the handshake.
    pub fn accept(mut socket: TcpStream, config: &Arc<ServerConfig>) -> Result<Records> {
        let mut session = ServerConnection::new(Arc::clone(config))?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Records {
            session,
            socket,
            ciphertext: Vec::with_capacity(2 * WRITE),
        })
    }

    /// Encrypts a message in a record of its own.
    pub fn push(&mut self, message: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(message)?;
        while self.session.wants_write() {
            self.session.write_tls(&mut self.ciphertext)?;
        }
        if self.ciphertext.len() >= WRITE {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the rest.
    pub fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.ciphertext)?;
        self.ciphertext.clear();
        Ok(())
    }
}

impl Read for Records {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.session, &mut self.socket).read(space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_rustls_accept_the_certificates() {
        Credentials::new().unwrap().handshake_alone().unwrap();
    }
}
