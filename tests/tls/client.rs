//! A requester with TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use dhcp_blq::config::Config;
use dhcp_blq::server::Server;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use socket2::{Domain, Socket, Type};

use crate::certificates::{Files, Identity};
use crate::fake_engine::{FakeEngine, Query, Reply};

/// Time after which a test fails; never reached by a correct server.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a server with these entries of `requesters` and further parameters of `advanced`. It runs until
/// dropped.
pub fn start(files: &Files, requesters: &str, advanced: &str) -> (Server, Arc<FakeEngine>) {
    let config = config(&format!(
        r#"{{ "requesters": {requesters},
             "advanced": {{ "lease-query-ip": "127.0.0.1", {} {advanced} }} }}"#,
        files.parameters()
    ));
    let engine = Arc::new(FakeEngine::default());
    (Server::start(&config, Arc::clone(&engine)).unwrap(), engine)
}

/// Reads parameters, for a port that the system chooses.
pub fn config(json: &str) -> Config {
    Config {
        port: 0,
        ..Config::parse(json).unwrap()
    }
}

/// Connects to the server from an address.
pub fn connect_from(server: &Server, source: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from((source, 0));
    socket.bind(&source.into()).unwrap();
    socket.connect(&server.local_addresses()[0].into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Returns the frame of a DHCPTLS with these options after its type.
pub fn dhcptls(options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 236];
    message[0] = 1;
    message[4..8].copy_from_slice(b"\x12\x34\x56\x78");
    message.extend(b"\x63\x82\x53\x63");
    message.extend([53, 1, 18]);
    message.extend(options);
    crate::fake_engine::frame(&message)
}

/// Reads the reply to a DHCPTLS; returns its status code, if it has one.
pub fn tls_reply(mut stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut size = [0; 2];
    stream.read_exact(&mut size)?;
    let mut message = vec![0; u16::from_be_bytes(size).into()];
    stream.read_exact(&mut message)?;
    let message = blq::Message::decode(&message).unwrap();
    assert_eq!(message.xid, 0x1234_5678);
    let options = message.joined();
    assert_eq!(options[&53], [18]);
    Ok(options.get(&151).map(|status| status[0]))
}

/// Sends a DHCPTLS, to which the server must agree.
pub fn agree(mut stream: TcpStream) -> TcpStream {
    stream.write_all(&dhcptls(&[255])).unwrap();
    assert_eq!(tls_reply(&stream).unwrap(), None);
    stream
}

/// A stream that keeps the octets read.
pub struct Tap {
    /// The stream.
    pub stream: TcpStream,
    /// The octets read so far.
    pub received: Vec<u8>,
}

impl Read for Tap {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(space)?;
        self.received.extend(&space[..count]);
        Ok(count)
    }
}

impl Write for Tap {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.stream.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A requester whose connection is about to be secured.
pub struct Client(pub StreamOwned<ClientConnection, Tap>);

/// Returns the provider.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Returns a configuration that trusts the server's authority, of these versions.
pub fn client_config(
    files: &Files,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let authority = files.authority.certificate();
    roots
        .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        Some(identity) => {
            let key = provider().key_provider.load_private_key(identity.key_der());
            // Not even a key of another certificate is refused here.
            let certified = CertifiedKey::new(vec![identity.certificate_der()], key.unwrap());
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    }
}

impl Client {
    /// Begins TLS on a stream after the DHCPTLS.
    pub fn on(stream: TcpStream, config: ClientConfig) -> Client {
        let name = ServerName::try_from("dhcp.example.net").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let received = Vec::new();
        Client(StreamOwned::new(session, Tap { stream, received }))
    }

    /// Sends a query and returns its replies; fails if the server closes.
    pub fn ask(&mut self, xid: u32, replies: u32, size: u16) -> io::Result<Vec<Reply>> {
        let query = Query { xid, replies, size };
        self.0.write_all(&query.frame())?;
        let mut received = Vec::new();
        loop {
            let reply = self.reply()?;
            let is_last = reply == Reply::done(xid);
            received.push(reply);
            if is_last {
                return Ok(received);
            }
        }
    }

    /// Reads the next reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut size = [0; 2];
        self.0.read_exact(&mut size)?;
        let mut message = vec![0; u16::from_be_bytes(size).into()];
        self.0.read_exact(&mut message)?;
        Ok(Reply::read(&message))
    }
}

/// Connects and secures the connection with this certificate, by TLS 1.3. Returns the requester if the server
/// answers a query, else the error.
pub fn served(
    files: &Files,
    server: &Server,
    source: [u8; 4],
    identity: Option<&Identity>,
) -> io::Result<Client> {
    served_by(files, server, source, identity, &[&rustls::version::TLS13])
}

/// Returns the requester as [`served`] does, by these versions.
pub fn served_by(
    files: &Files,
    server: &Server,
    source: [u8; 4],
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<Client> {
    let stream = agree(connect_from(server, source));
    let mut config = client_config(files, identity, versions);
    config.resumption = Resumption::disabled();
    let mut client = Client::on(stream, config);
    client.ask(7, 1, 300)?;
    Ok(client)
}
