//! Kea's control channels: each command and each answer is JSON.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::PATIENCE;

/// Sends a command by a control socket and returns the answer.
pub fn send(socket: &Path, command: &Value) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(command.to_string().as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Sends a command to a listener for HTTP, such as that of libdhcp_ha, and returns the answer.
pub fn post(listener: SocketAddrV4, command: &Value) -> io::Result<Value> {
    let mut stream = TcpStream::connect(listener)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = command.to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {listener}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (_, body) = response
        .split_once("\r\n\r\n")
        .ok_or(ErrorKind::InvalidData)?;
    // An answer by HTTP is a list of one.
    let mut answers: Value = serde_json::from_str(body)?;
    Ok(answers[0].take())
}
