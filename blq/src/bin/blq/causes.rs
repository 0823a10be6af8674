//! Likely causes of errors, for the user.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};

use blq::udp::{self, Violation};
use blq::{Error, StatusCode, tls};

/// Facts about a failed query that its error lacks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances {
    /// The server's TCP or UDP port.
    pub port: u16,
    /// The address of this machine that the connection had.
    pub local: Option<IpAddr>,
    /// Whether the server had replied to the query.
    pub replied: bool,
}

/// Returns the likely causes of an error; `None` if the error says all.
pub fn causes(error: &Error, circumstances: Circumstances) -> Option<String> {
    let Circumstances { port, replied, .. } = circumstances;
    let causes = match error {
        Error::Resolve(_) => "the name is wrong, or no name service answers".to_string(),
        Error::Connect(error) => match error.kind() {
            ErrorKind::ConnectionRefused => format!(
                "nothing listens on TCP port {port} there: the server is not running, does not \
                 listen for Bulk Leasequery, or uses another port or address"
            ),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => format!(
                "no machine has this address, or a firewall drops connections to TCP port {port}"
            ),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                "no route leads there, or a firewall rejects the connection".into()
            }
            ErrorKind::PermissionDenied => "a firewall of this machine".into(),
            ErrorKind::ConnectionReset => refused(circumstances),
            _ => return None,
        },
        Error::Source { error, .. } if error.kind() == ErrorKind::AddrNotAvailable => {
            "the address of --source is not one of this machine".into()
        }
        Error::Closed(_) | Error::ClosedInMessage(_) | Error::Broken { .. } if replied => {
            "the server stopped, was reconfigured, or closed a connection that was read too slowly"
                .into()
        }
        Error::Closed(_) | Error::Broken { .. } => refused(circumstances),
        Error::Tls(error) => return causes_of_tls(error, circumstances),
        Error::ClosedWithoutNotify(_) => {
            "the server failed, or somebody between here and there ended the connection".into()
        }
        Error::ClosedInMessage(_) => other_service(port),
        Error::Blocked { .. } if !replied => format!(
            "the server is busy or still loads its leases, or another service listens on TCP port \
             {port}"
        ),
        Error::Blocked { .. } => "the server is overloaded, or the network was interrupted".into(),
        Error::BlockedInMessage { .. } if replied => "the network was interrupted".into(),
        Error::NotDhcp(octets) => match octets.as_slice() {
            [0x15, 3, ..] => format!("a service that requires TLS listens on TCP port {port}"),
            _ => other_service(port),
        },
        Error::BlockedInMessage { .. } | Error::Decode(_) => other_service(port),
        Error::Malformed(_) | Error::UnknownXid(_) => {
            "the server violates RFC 6926, or another service listens there".into()
        }
        _ => return None,
    };
    Some(causes)
}

/// Returns the likely causes of an error of TLS; `None` if the error says all.
fn causes_of_tls(error: &tls::Error, circumstances: Circumstances) -> Option<String> {
    let causes = match error {
        tls::Error::Refused(_) => {
            "TLS is off there (`tls`), or the server has no certificate (`cert-file`)".into()
        }
        tls::Error::Closed => format!("{}; or the server has no TLS", refused(circumstances)),
        tls::Error::OtherReply(_) => "the server does not support RFC 7724".into(),
        tls::Error::PlainOctets(_) => {
            "somebody between here and there has sent octets in the server's name".into()
        }
        tls::Error::Certificate(_) => {
            "the certificate was not issued by an authority of --ca, has ended, or has another name than \
             SERVER (--server-name names another)"
                .into()
        }
        tls::Error::Alert(_) => {
            "the server requires a certificate (--cert and --key), or does not accept this one \
             (`trust-anchor`, `certificates` of the entry in `requesters`)"
                .into()
        }
        _ => return None,
    };
    Some(causes)
}

/// Returns the likely causes of an error over UDP, to the server's UDP port `port`; `None` if the error
/// says all.
pub fn causes_of_udp(error: &udp::Error, port: u16) -> Option<String> {
    let causes = match error {
        udp::Error::Route(_) => "no route leads there".into(),
        udp::Error::Bind { address, error } => {
            let port = address.port();
            match error.kind() {
                ErrorKind::PermissionDenied => {
                    "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE; servers send \
                     replies to port 67 of giaddr, so no other port receives them unless port 67 is \
                     redirected to it (--source-port)"
                        .into()
                }
                ErrorKind::AddrInUse => format!(
                    "a DHCP server, a relay agent or another blq uses UDP port {port} of this machine, \
                     which `ss -ulpn` shows; servers send replies to port 67 of giaddr: stop the other \
                     program, or run blq on another machine or with another --source"
                ),
                ErrorKind::AddrNotAvailable => {
                    "the address of --source is not one of this machine".into()
                }
                _ => return None,
            }
        }
        udp::Error::Send(error) => match error.kind() {
            ErrorKind::PermissionDenied => "a firewall of this machine".into(),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                "no route leads there from the address of --source".into()
            }
            ErrorKind::InvalidInput => {
                "the address of --source cannot reach the server, as a loopback address".into()
            }
            _ => return None,
        },
        udp::Error::NoReply(silence) => {
            let giaddr = silence.giaddr;
            format!(
                "the server does not answer DHCPLEASEQUERY over UDP (RFC 4388), or not this query \
                 type; {giaddr} (giaddr) is not among its `requesters` (--source queries from another \
                 address), or is above its rate limit; a firewall drops UDP from {giaddr} to port \
                 {port} or back to port 67; or the server has no route to {giaddr}"
            )
        }
        udp::Error::Violation(Violation::OtherVpn) => {
            "the server does not support VPN-ID over UDP (RFC 6607), and searched another VPN"
                .into()
        }
        udp::Error::Violation(_) => "the server violates RFC 4388".into(),
        udp::Error::Receive(_) | udp::Error::Invalid(_) => return None,
    };
    Some(causes)
}

/// Returns the likely causes of a connection that the server closed without a reply.
fn refused(circumstances: Circumstances) -> String {
    let local = match circumstances.local {
        Some(IpAddr::V4(local)) if local != Ipv4Addr::UNSPECIFIED => local.to_string(),
        _ => "this machine".into(),
    };
    format!(
        "the server does not allow {local}, which is not among its `requesters` (--source connects \
         from another address of this machine); too many connections are open \
         (`max-requester-connections`, `max-connections`); or it requires TLS (--tls)"
    )
}

/// Returns the likely cause of octets that are not DHCP.
fn other_service(port: u16) -> String {
    format!("another service than Bulk Leasequery listens on TCP port {port}")
}

/// Returns the likely cause of a status; `None` if the server's text has to say it.
pub fn causes_of_status(code: StatusCode) -> Option<&'static str> {
    match code {
        StatusCode::NOT_ALLOWED => Some(
            "the server does not allow this requester the query type (`query-types` of its entry in \
             `requesters`)",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blq::client::Operation;

    /// Returns the causes of an error.
    fn causes_of(error: &Error, replied: bool) -> String {
        let circumstances = Circumstances {
            port: 67,
            local: Some([192, 0, 2, 7].into()),
            replied,
        };
        causes(error, circumstances).unwrap()
    }

    /// RFC 4388 section 6.6: silence has many causes; each of the other errors has a remedy.
    #[test]
    fn names_causes_of_errors_over_udp() {
        let bind = |kind: ErrorKind| udp::Error::Bind {
            address: "192.0.2.7:67".parse().unwrap(),
            error: kind.into(),
        };
        let silence = udp::Silence {
            giaddr: [192, 0, 2, 7].into(),
            seconds: 30.0,
            transmissions: 4,
            ignored: 0,
            last_ignored: None,
        };
        for (error, expected) in [
            (
                bind(ErrorKind::PermissionDenied),
                "root or the capability CAP_NET_BIND_SERVICE",
            ),
            (bind(ErrorKind::AddrInUse), "a relay agent"),
            (bind(ErrorKind::AddrNotAvailable), "--source"),
            (
                udp::Error::NoReply(silence),
                "192.0.2.7 (giaddr) is not among",
            ),
            (udp::Error::NoReply(silence), "rate limit"),
            (udp::Error::NoReply(silence), "firewall"),
            (udp::Error::Violation(Violation::OtherVpn), "RFC 6607"),
        ] {
            let causes = causes_of_udp(&error, 67).unwrap();
            assert!(causes.contains(expected), "{error}: {causes}");
        }
    }

    #[test]
    fn names_causes_by_the_kind_of_failure() {
        let connect = |kind: ErrorKind| Error::Connect(kind.into());
        let reset = || Error::Broken {
            operation: Operation::Read,
            error: ErrorKind::ConnectionReset.into(),
        };
        let blocked = || Error::Blocked {
            operation: Operation::Read,
            seconds: 1.0,
        };
        for (error, replied, expected) in [
            (
                connect(ErrorKind::ConnectionRefused),
                false,
                "nothing listens on TCP port 67",
            ),
            (connect(ErrorKind::TimedOut), false, "a firewall drops"),
            (connect(ErrorKind::NetworkUnreachable), false, "no route"),
            (
                reset(),
                false,
                "192.0.2.7, which is not among its `requesters`",
            ),
            (reset(), false, "too many connections"),
            (Error::Closed(1), false, "`requesters`"),
            (reset(), true, "the server stopped"),
            (blocked(), false, "still loads its leases"),
            (blocked(), true, "overloaded"),
            (Error::NotDhcp(b"SSH".to_vec()), false, "another service"),
            (Error::NotDhcp(vec![0x15, 3, 3]), false, "TLS"),
            (Error::ClosedInMessage(1), false, "another service"),
        ] {
            let causes = causes_of(&error, replied);
            assert!(causes.contains(expected), "{error}: {causes}");
        }
    }
}
