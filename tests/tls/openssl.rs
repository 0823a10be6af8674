//! OpenSSL as a requester's TLS, and as the maker of keys. Without the program `openssl` these tests are
//! skipped, and say so.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use dhcp_blq::server::{Server, TlsContext};

use crate::certificates::{Authority, Files, Identity};
use crate::client::{agree, config, start};
use crate::fake_engine::{Query, Reply};
use crate::loopback::connect_from;

/// Whether the program is installed.
fn is_installed() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: openssl is not installed");
    }
    found
}

/// Runs the program, which must succeed.
fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(directory).args(arguments.split(' '));
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {error}");
}

/// Accepts one connection on the returned port, sends a DHCPTLS to the server, and then passes octets on
/// in both directions.
fn relay(server: &Server) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = agree(connect_from(server, [127, 0, 0, 1]));
    thread::spawn(move || {
        let (downstream, _) = listener.accept().unwrap();
        let copy = |mut from: TcpStream, mut to: TcpStream| {
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            })
        };
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        copy(clone(&downstream), clone(&upstream));
        copy(upstream, downstream);
    });
    port
}

/// A running `openssl s_client`, ended on drop.
struct Client {
    /// The process.
    process: Child,
    /// The output: the plaintext received.
    output: ChildStdout,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Client {
    /// Starts a client of the server with this certificate and further options.
    fn start(files: &Files, server: &Server, identity: Option<&Identity>, options: &str) -> Client {
        let port = relay(server);
        let mut command = Command::new("openssl");
        command
            .current_dir(files.directory())
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
            .args(["-quiet", "-CAfile", "ca.pem", "-verify_return_error"])
            .args(["-verify_hostname", "dhcp.example.net"])
            .args(options.split(' '));
        if let Some(identity) = identity {
            files.write("client.pem", &identity.certificate);
            files.write("client.key", &identity.key);
            command.args(["-cert", "client.pem", "-key", "client.key"]);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let output = process.stdout.take().unwrap();
        Client { process, output }
    }

    /// Sends a query; returns its replies, or an error if the server closes.
    fn ask(&mut self, replies: u32) -> io::Result<Vec<Reply>> {
        let query = Query {
            xid: 1,
            replies,
            size: 300,
        };
        let input = self.process.stdin.as_mut().unwrap();
        input.write_all(&query.frame())?;
        input.flush()?;
        let mut received = Vec::new();
        loop {
            let mut size = [0; 2];
            self.output.read_exact(&mut size)?;
            let mut message = vec![0; u16::from_be_bytes(size).into()];
            self.output.read_exact(&mut message)?;
            let reply = Reply::read(&message);
            let is_last = reply == Reply::done(1);
            received.push(reply);
            if is_last {
                return Ok(received);
            }
        }
    }
}

#[test]
fn serves_openssl_by_tls_1_2_and_1_3() {
    if !is_installed() {
        return;
    }
    let files = Files::new();
    let (server, _) = start(&files, r#"["127.0.0.1"]"#, "");
    let requester = files.authority.issue(&["bng1.example.net"]);
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = Client::start(&files, &server, Some(&requester), version);
        assert_eq!(client.ask(2_000).unwrap().len(), 2_001, "{version}");
        let tls = server.monitor().connections()[0].tls.clone().unwrap();
        assert_eq!(tls.name.as_deref(), Some("bng1.example.net"));
    }
}

#[test]
fn refuses_openssl_with_another_certificate_or_an_older_version() {
    if !is_installed() {
        return;
    }
    let files = Files::new();
    let requesters = r#"[{ "address": "127.0.0.1", "certificates": ["bng1.example.net"] }]"#;
    let (server, engine) = start(&files, requesters, "");
    let listed = files.authority.issue(&["bng1.example.net"]);
    let unlisted = files.authority.issue(&["bng2.example.net"]);
    let unknown = Authority::new("other").issue(&["bng1.example.net"]);
    for (identity, options) in [
        (None, "-tls1_3"),
        (Some(&unlisted), "-tls1_3"),
        (Some(&unlisted), "-tls1_2"),
        (Some(&unknown), "-tls1_3"),
        (Some(&listed), "-tls1_1"),
    ] {
        let mut client = Client::start(&files, &server, identity, options);
        assert!(client.ask(1).is_err(), "{options}");
    }
    assert_eq!(engine.opened(), 0);
    let mut client = Client::start(&files, &server, Some(&listed), "-tls1_3");
    assert!(client.ask(1).is_ok());
}

#[test]
fn accepts_keys_of_every_unencrypted_form_and_kind() {
    if !is_installed() {
        return;
    }
    let files = Files::new();
    let make = |arguments: &str| openssl(files.directory(), arguments);
    let request = "req -x509 -nodes -days 100 -subj /CN=dhcp -newkey";
    make(&format!(
        "{request} rsa:2048 -keyout rsa-pkcs8 -out rsa.pem"
    ));
    make("rsa -in rsa-pkcs8 -traditional -out rsa-pkcs1");
    let curve = "ec -pkeyopt ec_paramgen_curve:P-256";
    make(&format!("{request} {curve} -keyout ec-pkcs8 -out ec.pem"));
    make("ec -in ec-pkcs8 -out ec-sec1");
    make(&format!(
        "{request} ed25519 -keyout ed25519 -out ed25519.pem"
    ));
    make("rsa -in rsa-pkcs8 -traditional -aes128 -passout pass:secret -out rsa-encrypted");
    let load = |key: &str, certificate: &str| {
        let mut config = config(&format!(
            r#"{{ "requesters": ["192.0.2.1"], "advanced": {{ {} }} }}"#,
            files.parameters()
        ));
        let tls = config.tls.as_mut().unwrap();
        (tls.key_file, tls.cert_file) = (files.path(key), files.path(certificate));
        TlsContext::load(&config).map_err(|error| error.to_string())
    };
    for (key, begin, certificate) in [
        ("rsa-pkcs8", "-----BEGIN PRIVATE KEY", "rsa.pem"),
        ("rsa-pkcs1", "-----BEGIN RSA PRIVATE KEY", "rsa.pem"),
        ("ec-pkcs8", "-----BEGIN PRIVATE KEY", "ec.pem"),
        ("ec-sec1", "-----BEGIN EC PRIVATE KEY", "ec.pem"),
        ("ed25519", "-----BEGIN PRIVATE KEY", "ed25519.pem"),
    ] {
        assert!(
            fs::read_to_string(files.path(key))
                .unwrap()
                .starts_with(begin)
        );
        let context = load(key, certificate).unwrap().unwrap();
        assert_eq!(context.report().cert_file.count, 1, "{key}");
    }
    let error = load("rsa-encrypted", "rsa.pem").unwrap_err();
    assert!(error.contains("the key is encrypted"), "{error}");
    assert!(load("rsa-pkcs8", "ec.pem").is_err());
}
