//! Active queries (RFC 7724) over sockets, to a server with a mirror.

// No test uses all items.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::num::NonZeroU32;
use std::sync::Arc;

use blq::wire::code;
use blq::{Message, MessageType};
use dhcp_blq::config::Config;
use dhcp_blq::mirror::Mirror;
use dhcp_blq::query::active::Permission;
use dhcp_blq::query::lease_engine::LeaseEngine;
use dhcp_blq::server::Server;

use self::loopback::{connect_from, is_close, read_message};

#[path = "loopback.rs"]
pub mod loopback;

/// DHCPLEASEUNASSIGNED.
pub const UNASSIGNED: u8 = 11;
/// DHCPLEASEACTIVE.
pub const ACTIVE: u8 = 13;
/// DHCPACTIVELEASEQUERY.
pub const QUERY: u8 = 16;
/// DHCPLEASEQUERYSTATUS.
pub const STATUS: u8 = 17;

/// QueryTerminated.
pub const QUERY_TERMINATED: u8 = 2;
/// NotAllowed.
pub const NOT_ALLOWED: u8 = 4;
/// DataMissing.
pub const DATA_MISSING: u8 = 5;
/// ConnectionActive.
pub const CONNECTION_ACTIVE: u8 = 6;
/// CatchUpComplete.
pub const CATCH_UP_COMPLETE: u8 = 7;

/// Parameters that enable active queries without TLS.
pub const INSECURE: &str = r#""active-query-enabled": true, "active-query-insecure": true"#;

/// Returns parameters for these requesters, on a port that the system chooses.
pub fn config(requesters: &str, advanced: &str) -> Config {
    let json = format!(
        r#"{{ "requesters": {requesters},
              "advanced": {{ "lease-query-ip": "127.0.0.1", "max-bulk-query-threads": 1, {advanced} }} }}"#
    );
    Config {
        port: 0,
        ..Config::parse(&json).unwrap()
    }
}

/// Serves a mirror.
pub fn serve(mirror: &Arc<Mirror>, config: &Config) -> Server {
    let engine = LeaseEngine::new(Arc::clone(mirror), config.non_sensitive_options.clone());
    let active = config.active.as_ref();
    let engine = engine.with_active(active.map(|active| Permission {
        is_insecure: active.is_insecure,
        history: active.history.map(NonZeroU32::get),
    }));
    Server::start(config, Arc::new(engine)).unwrap()
}

/// Returns an active query.
pub fn query(xid: u32) -> Message {
    Message::new(1, xid, MessageType(QUERY))
}

/// Returns an active query with a query-start-time.
pub fn query_from(xid: u32, start: u32) -> Message {
    query(xid).with(code::QUERY_START_TIME, start.to_be_bytes())
}

/// A message of the server.
#[derive(Clone, Debug)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// The options, by code.
    pub options: BTreeMap<u8, Vec<u8>>,
    /// The number of octets, without its message-size.
    pub length: usize,
}

impl Received {
    /// Returns the dhcp-message-type.
    pub fn message_type(&self) -> u8 {
        self.options[&53][0]
    }

    /// Returns the address that it is about.
    pub fn address(&self) -> Ipv4Addr {
        self.message.ciaddr
    }

    /// Returns the value of an option that is a number.
    pub fn number(&self, code: u8) -> Option<u32> {
        let value = self.options.get(&code)?;
        Some(u32::from_be_bytes(value[..].try_into().unwrap()))
    }

    /// Returns the base-time, which each message has.
    pub fn base_time(&self) -> u32 {
        self.number(152).expect("each message has a base-time")
    }

    /// Returns the status code and its text; `None` without a status.
    pub fn status(&self) -> Option<(u8, String)> {
        let (code, text) = self.options.get(&151)?.split_first()?;
        Some((*code, String::from_utf8(text.to_vec()).unwrap()))
    }

    /// Returns the status code of a DHCPLEASEQUERYSTATUS.
    pub fn status_code(&self) -> u8 {
        assert_eq!(self.message_type(), STATUS, "{self:?}");
        self.status().expect("a status").0
    }
}

/// A requester's connection, without TLS or with it.
#[derive(Debug)]
pub struct Requester<S = TcpStream>(pub S);

impl Requester {
    /// Connects from an address.
    pub fn connect_from(server: &Server, source: [u8; 4]) -> Requester {
        Requester(connect_from(server, source))
    }

    /// Connects from 127.0.0.1.
    pub fn connect(server: &Server) -> Requester {
        Requester::connect_from(server, [127, 0, 0, 1])
    }

    /// Connects and sends a message.
    pub fn ask(server: &Server, message: &Message) -> Requester {
        let mut requester = Requester::connect(server);
        requester.send(message);
        requester
    }

    /// Closes the sending side.
    pub fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Requester<S> {
    /// Sends octets.
    pub fn send_octets(&mut self, octets: &[u8]) {
        self.0.write_all(octets).unwrap();
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message) {
        self.send_octets(&message.to_frame().unwrap());
    }

    /// Returns the next message; `None` if the server closed the connection.
    pub fn next(&mut self) -> Option<Received> {
        let octets = match read_message(&mut self.0) {
            Ok(octets) => octets,
            Err(error) if is_close(&error) => return None,
            Err(error) => panic!("{error}"),
        };
        let message = Message::decode(&octets).unwrap();
        Some(Received {
            options: message.joined(),
            length: octets.len(),
            message,
        })
    }

    /// Returns the next message.
    pub fn message(&mut self) -> Received {
        self.next().expect("the connection stays open")
    }

    /// Returns all messages until the server closes the connection.
    pub fn rest(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Sends an active query without a catch-up, and waits until its stream has begun. Whether it has; otherwise the
    /// server closed the connection without a message.
    pub fn begins_stream(&mut self, query: Message) -> bool {
        // A catch-up from the future has no changes.
        self.send(&query.with(code::QUERY_START_TIME, u32::MAX.to_be_bytes()));
        let first = self.next();
        first.is_some_and(|status| status.status_code() == CATCH_UP_COMPLETE)
    }

    /// Whether the server closes the connection without a message.
    pub fn is_closed(&mut self) -> bool {
        self.next().is_none()
    }
}
