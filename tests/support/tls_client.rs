//! A requester's side of TLS, by rustls: after a DHCPTLS (RFC 7724 section 7.2).

// No test uses all items.
#![allow(dead_code)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::certificates::{Files, Identity};
use crate::loopback::read_message;

/// A stream that TLS secures.
pub type TlsStream = StreamOwned<ClientConnection, Tap>;

/// Returns the frame of a DHCPTLS with these options after its type.
pub fn dhcptls(options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 236];
    message[0] = 1;
    message[4..8].copy_from_slice(b"\x12\x34\x56\x78");
    message.extend(b"\x63\x82\x53\x63");
    message.extend([53, 1, 18]);
    message.extend(options);
    let size = u16::try_from(message.len()).unwrap();
    [&size.to_be_bytes()[..], &message].concat()
}

/// Reads the reply to a DHCPTLS; returns its status code, if it has one.
pub fn tls_reply(mut stream: &TcpStream) -> io::Result<Option<u8>> {
    let message = read_message(&mut stream)?;
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
#[derive(Debug)]
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

/// Returns the types and lengths of the records in received octets.
pub fn records(mut octets: &[u8]) -> Vec<(u8, usize)> {
    let mut records = Vec::new();
    while let Some(([kind, _, _, high, low], rest)) = octets.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        records.push((*kind, length));
        octets = &rest[length..];
    }
    assert!(octets.is_empty(), "the stream ends with a record");
    records
}

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
    let mut config = match identity {
        Some(identity) => {
            let key = provider().key_provider.load_private_key(identity.key_der());
            // Not even a key of another certificate is refused here.
            let certified = CertifiedKey::new(vec![identity.certificate_der()], key.unwrap());
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config
}

/// Begins TLS on a stream after the DHCPTLS.
pub fn secure(stream: TcpStream, config: ClientConfig) -> TlsStream {
    let name = ServerName::try_from("dhcp.example.net").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let received = Vec::new();
    StreamOwned::new(session, Tap { stream, received })
}
