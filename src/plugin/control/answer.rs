//! Answers to control commands, in Kea's form.

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use crate::model::hex::Hex;
use crate::model::vpn::Vpn;

/// An answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Result 0: a text and the arguments.
    Success(String, Value),
    /// Result 1: the text names the wrong argument and the values allowed.
    Error(String),
    /// Result 3: the command is right, but its subject does not exist.
    Empty(String, Value),
}

impl Answer {
    /// Returns the answer as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Answer::Success(text, arguments) => {
                json!({ "result": 0, "text": text, "arguments": arguments })
            }
            Answer::Error(text) => json!({ "result": 1, "text": text }),
            Answer::Empty(text, arguments) => {
                json!({ "result": 3, "text": text, "arguments": arguments })
            }
        }
    }
}

/// The arguments of a command, of which it takes some.
pub struct Arguments<'a> {
    /// The name of the command.
    command: &'a str,
    /// The arguments.
    values: Map<String, Value>,
}

impl<'a> Arguments<'a> {
    /// Reads the arguments of a command.
    ///
    /// # Errors
    /// They are no map, or have a name that is not among those `allowed`. The text is for the administrator.
    pub fn read(command: &'a str, arguments: &Value, allowed: &[&str]) -> Result<Self, String> {
        let values = match arguments {
            Value::Null => Map::new(),
            Value::Object(values) => values.clone(),
            other => {
                return Err(format!(
                    "'arguments' of {command} is {other}; it must be a map, or missing"
                ));
            }
        };
        let is_unknown = |name: &&String| !allowed.contains(&name.as_str());
        if let Some(unknown) = values.keys().find(is_unknown) {
            let allowed: Vec<String> = allowed.iter().map(|name| format!("'{name}'")).collect();
            let allowed = match allowed.is_empty() {
                true => "no arguments are allowed".to_owned(),
                false => format!("allowed are {}", allowed.join(" and ")),
            };
            return Err(format!("{command} has no argument '{unknown}'; {allowed}"));
        }
        Ok(Arguments { command, values })
    }

    /// Returns an argument that must be an IPv4 address.
    ///
    /// # Errors
    /// It is missing, or none.
    pub fn address(&self, name: &str) -> Result<Ipv4Addr, String> {
        const ALLOWED: &str = "an IPv4 address like \"192.0.2.1\"";
        let command = self.command;
        let Some(value) = self.values.get(name) else {
            return Err(format!(
                "argument '{name}' of {command} is missing; it must be {ALLOWED}"
            ));
        };
        let address = value.as_str().and_then(|text| text.parse().ok());
        address.ok_or_else(|| {
            format!("argument '{name}' of {command} is {value}; it must be {ALLOWED}")
        })
    }

    /// Returns an argument that must be a port; `None` if it is missing.
    ///
    /// # Errors
    /// It is none.
    pub fn port(&self, name: &str) -> Result<Option<u16>, String> {
        let Some(value) = self.values.get(name) else {
            return Ok(None);
        };
        let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.filter(|port| *port > 0);
        port.map(Some).ok_or_else(|| {
            let command = self.command;
            format!("argument '{name}' of {command} is {value}; it must be a port, from 1 to 65535")
        })
    }
}

/// Returns a VPN, as the configuration declares it.
pub fn vpn(vpn: &Vpn) -> Value {
    match vpn {
        Vpn::Default => json!({ "type": "default" }),
        Vpn::Name(name) => json!({ "type": "name", "name": name }),
        Vpn::Rfc2685(id) => json!({ "type": "rfc2685", "rfc2685": Hex(id).to_string() }),
    }
}

/// Returns octets in hexadecimal digits; `null` if there are none.
pub fn octets(octets: &[u8]) -> Value {
    match octets {
        [] => Value::Null,
        octets => Hex(octets).to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_argument_and_the_values_allowed() {
        let read = |arguments: Value| Arguments::read("blq4-x", &arguments, &["address", "port"]);
        let error = |arguments| read(arguments).err().unwrap();
        assert_eq!(
            error(json!([])),
            "'arguments' of blq4-x is []; it must be a map, or missing"
        );
        assert_eq!(
            error(json!({ "adress": "192.0.2.1" })),
            "blq4-x has no argument 'adress'; allowed are 'address' and 'port'"
        );
        assert_eq!(
            Arguments::read("blq4-x", &json!({ "a": 1 }), &[])
                .err()
                .unwrap(),
            "blq4-x has no argument 'a'; no arguments are allowed"
        );
        let address = |arguments| read(arguments).unwrap().address("address");
        assert_eq!(
            address(json!({})).unwrap_err(),
            "argument 'address' of blq4-x is missing; it must be an IPv4 address like \"192.0.2.1\""
        );
        for wrong in [
            json!("192.0.2"),
            json!(7),
            json!("2001:db8::1"),
            json!(null),
        ] {
            let text = address(json!({ "address": wrong })).unwrap_err();
            assert!(text.starts_with(&format!("argument 'address' of blq4-x is {wrong};")));
        }
        let port = |port: Value| read(json!({ "port": port })).unwrap().port("port");
        for wrong in [json!(0), json!(65_536), json!(-1), json!("67"), json!(1.5)] {
            let text = port(wrong.clone()).unwrap_err();
            assert_eq!(
                text,
                format!("argument 'port' of blq4-x is {wrong}; it must be a port, from 1 to 65535")
            );
        }
        assert_eq!(port(json!(65_535)), Ok(Some(65_535)));
        assert_eq!(read(json!(null)).unwrap().port("port"), Ok(None));
    }
}
