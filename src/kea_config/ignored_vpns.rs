//! Parts of a configuration that look like declarations of VPNs and have no effect.
//!
//! Kea accepts any `user-context`, so a mistyped or misplaced declaration would silently leave bindings in the default
//! VPN.

use std::fmt::Write;

use serde_json::Value;

use crate::kea_config::json;

/// Keys of a `user-context` that are meant as [`KEY`], without case, hyphens and the like.
const MISTAKES: [&str; 15] = [
    "vpn",
    "vpns",
    "vpnid",
    "vpnname",
    "vnp",
    "pvn",
    "vps",
    "vss",
    "vrf",
    "vrfname",
    "rfc2685",
    "rfc2865",
    "rfc2658",
    "rfc6607",
    "vpnrfc2685",
];

/// A key of a declaration that nothing else has.
const KEY_INSIDE: &str = "rfc2685";

/// The key of a declaration in a `user-context`.
const KEY: &str = "vpn";

/// The most texts of [`ignored_vpns`].
const MOST_IGNORED: usize = 20;

/// Returns a text about each part of a configuration that looks like the declaration of a VPN and has no effect, at
/// most [`MOST_IGNORED`]. `config` is in the layout of `config-get`.
pub fn ignored_vpns(config: &str) -> Vec<String> {
    // A text that cannot be read is refused elsewhere.
    let config = serde_json::from_str(&json::repaired(config)).unwrap_or_default();
    ignored(&config)
}

/// Returns the texts about a configuration.
fn ignored(config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(&config["Dhcp4"], &mut Place::default(), &mut found);
    found.truncate(MOST_IGNORED);
    found
}

/// A place in the configuration.
#[derive(Default)]
struct Place {
    /// The parameters that enclose it, outermost first, each with the name of its map.
    enclosing: Vec<(String, String)>,
}

impl Place {
    /// Whether a VPN can be declared here.
    fn takes_vpn(&self) -> bool {
        let last = self.enclosing.last().map(|(parameter, _)| &**parameter);
        matches!(last, Some("subnet4" | "shared-networks"))
    }

    /// Returns the name of the place.
    fn name(&self) -> String {
        let mut name = String::new();
        for (parameter, map) in self.enclosing.iter().rev() {
            if !name.is_empty() {
                name.push_str(" of ");
            }
            // Writing to a string cannot fail.
            let _ = write!(name, "{parameter} {map}");
        }
        match name.is_empty() {
            true => "Dhcp4".to_owned(),
            false => name,
        }
    }
}

/// Visits a map of the configuration and the maps in it.
fn visit(value: &Value, place: &mut Place, found: &mut Vec<String>) {
    let Some(map) = value.as_object() else {
        return;
    };
    if let Some(context) = map.get("user-context").and_then(Value::as_object) {
        found.extend(context.iter().filter_map(|(key, value)| {
            let is_meant = MISTAKES.contains(&&*plain(key)) || has_inside(value);
            let why = match (key == KEY, place.takes_vpn()) {
                (true, true) => return None,
                (true, false) => {
                    r#"a VPN is declared in the user-context of a subnet or shared network"#
                }
                (false, _) if !is_meant => return None,
                (false, _) => {
                    r#"a VPN is declared as "vpn": { "name": ... } or "vpn": { "rfc2685": ... }"#
                }
            };
            let key = Value::from(&**key);
            Some(format!(
                "{key} in the user-context of {} has no effect: {why}",
                place.name()
            ))
        }));
    }
    for (parameter, value) in map {
        let parts = match value {
            // The parameters of hooks are theirs.
            _ if found.len() >= MOST_IGNORED
                || parameter == "user-context"
                || parameter == "hooks-libraries" =>
            {
                continue;
            }
            Value::Array(parts) => parts.as_slice(),
            Value::Object(_) => std::slice::from_ref(value),
            _ => continue,
        };
        for part in parts {
            place.enclosing.push((parameter.clone(), name_of(part)));
            visit(part, place, found);
            place.enclosing.pop();
        }
    }
}

/// Returns a key without case, hyphens and the like.
fn plain(key: &str) -> String {
    let letters = key.chars().filter(char::is_ascii_alphanumeric);
    letters.collect::<String>().to_ascii_lowercase()
}

/// Whether a value is a map that only declares a VPN.
fn has_inside(value: &Value) -> bool {
    let map = value.as_object().into_iter().flatten();
    map.map(|(key, _)| plain(key)).any(|key| key == KEY_INSIDE)
}

/// Returns the value that identifies a map to its reader; empty without one.
fn name_of(map: &Value) -> String {
    let keys = ["subnet", "pool", "name", "ip-address", "hw-address"];
    let mut values = keys.iter().filter_map(|key| map[key].as_str());
    values
        .next()
        .map(|value| format!("'{value}'"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_declarations_without_effect() {
        let config = json!({ "Dhcp4": {
            "user-context": { "vpn": { "name": "blue" } },
            "hooks-libraries": [ { "library": "x", "user-context": { "VPN": 1 } } ],
            "shared-networks": [ {
                "name": "east",
                "user-context": { "Vpn": { "name": "blue" }, "comment": "fine" },
                "subnet4": [ {
                    "subnet": "192.0.2.0/24",
                    "user-context": { "vpn": { "name": "blue" }, "rfc2685": "00005e00000007", "vpn-contact": 1 },
                    "pools": [ { "pool": "192.0.2.7-192.0.2.9", "user-context": { "vpn": {} } } ],
                } ],
            } ],
        } });
        let found = ignored(&config);
        for (text, parts) in found.iter().zip([
            &[r#""vpn" in"#, "Dhcp4"][..],
            &[r#""Vpn" in"#, "shared-networks 'east' has"],
            &[
                r#""rfc2685" in"#,
                "subnet4 '192.0.2.0/24' of shared-networks 'east'",
            ],
            &[
                r#""vpn" in"#,
                "pools '192.0.2.7-192.0.2.9' of subnet4 '192.0.2.0/24'",
            ],
        ]) {
            for part in parts {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        assert_eq!(found.len(), 4, "{found:#?}");
    }

    #[test]
    fn finds_misspelt_keys_and_no_others() {
        for (context, key) in [
            (json!({ "VPN": { "name": "blue" } }), r#""VPN""#),
            (json!({ "vpns": [ { "name": "blue" } ] }), r#""vpns""#),
            (json!({ "vnp": { "name": "blue" } }), r#""vnp""#),
            (json!({ "vpn-id": 7 }), r#""vpn-id""#),
            (json!({ "rfc2865": "00005e00000007" }), r#""rfc2865""#),
            (
                json!({ "tenant": { "RFC2685": "00005e00000007" } }),
                r#""tenant""#,
            ),
        ] {
            let config = json!({ "Dhcp4": { "subnet4": [ { "user-context": context } ] } });
            let found = ignored(&config);
            assert!(found.len() == 1 && found[0].starts_with(key), "{found:?}");
        }
        let others = json!({ "vpn-contact": 1, "name": "blue", "comment": "vpn", "tenant": { "name": "blue" } });
        let config = json!({ "Dhcp4": { "subnet4": [ { "user-context": others } ] } });
        assert_eq!(ignored(&config), [""; 0]);
    }

    /// Hosts, classes and options have contexts, too.
    #[test]
    fn finds_declarations_wherever_kea_takes_a_context() {
        let context = json!({ "vpn": { "name": "blue" } });
        for (name, part) in [
            (
                "reservations",
                json!({ "subnet4": [ { "reservations": [ { "user-context": context } ] } ] }),
            ),
            (
                "client-classes",
                json!({ "client-classes": [ { "name": "gold", "user-context": context } ] }),
            ),
            (
                "option-data",
                json!({ "option-data": [ { "name": "routers", "user-context": context } ] }),
            ),
        ] {
            let found = ignored(&json!({ "Dhcp4": part }));
            assert!(found.len() == 1 && found[0].contains(name), "{found:?}");
        }
    }

    #[test]
    fn reports_a_bounded_number() {
        let subnet =
            |index: usize| json!({ "subnet": index.to_string(), "user-context": { "VPN": 1 } });
        let subnets: Vec<Value> = (0..1_000).map(subnet).collect();
        assert_eq!(
            ignored(&json!({ "Dhcp4": { "subnet4": subnets } })).len(),
            MOST_IGNORED
        );
    }
}
