//! A requester with TLS, of a server without leases.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;

use dhcp_blq::config::Config;
use dhcp_blq::server::Server;
use rustls::{ClientConfig, SupportedProtocolVersion};

use crate::certificates::{Files, Identity};
use crate::fake_engine::{FakeEngine, Query, Reply};
use crate::loopback::{connect_from, read_message};
use crate::tls_client::{TlsStream, secure};
pub use crate::tls_client::{agree, client_config, dhcptls, records, tls_reply};

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

/// A requester whose connection is about to be secured.
pub struct Client(pub TlsStream);

impl Client {
    /// Begins TLS on a stream after the DHCPTLS.
    pub fn on(stream: TcpStream, config: ClientConfig) -> Client {
        Client(secure(stream, config))
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
        Ok(Reply::read(&read_message(&mut self.0)?))
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
    let mut client = Client::on(stream, client_config(files, identity, versions));
    client.ask(7, 1, 300)?;
    Ok(client)
}
