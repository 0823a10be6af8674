//! The callouts that this library needs.
//!
//! Kea registers every callout of a library by its name. To call one costs Kea more than the callout itself:
//! Kea builds the arguments, and for `leases4_committed` and `lease4_offer` it parks the packet, which takes a
//! twentieth of its time for a client.

use serde_json::Value;

/// The first version whose lease manager reports changes, and which calls `lease4_offer`.
const FIRST_WITH_TRACKING: u32 = 2_04_00;

/// The first version that passes the answer to the client to `leases4_committed`.
const FIRST_WITH_ANSWERS: u32 = 3_00_00;

/// The callouts that announce that a client's message is about to lease an address or renew a lease. Kea calls
/// one for each DHCPDISCOVER and each DHCPREQUEST.
const ANNOUNCING: [&str; 2] = ["lease4_select", "lease4_renew"];

/// The callouts that announce that a client's message is about to end a lease, which is rare.
const ANNOUNCING_ENDS: [&str; 2] = ["lease4_release", "lease4_decline"];

/// Kea's libraries that change leases by commands, which the main thread processes, in the course of clients'
/// messages, or not at all: the part of their file names between `libdhcp_` and `.so`. Libraries that change
/// leases on threads of their own, as the high-availability library, and unknown ones are not among them.
const WITHOUT_THREADS: [&str; 21] = [
    "blq",
    "bootp",
    "cb_cmds",
    "class_cmds",
    "ddns_tuning",
    "flex_id",
    "flex_option",
    "host_cmds",
    "lease_cmds",
    "lease_query",
    "legal_log",
    "limits",
    "mysql",
    "mysql_cb",
    "perfmon",
    "pgsql",
    "pgsql_cb",
    "ping_check",
    "run_script",
    "stat_cmds",
    "subnet_cmds",
];

/// Kea's libraries that change a configuration in force, by a part of their names. The result is not known when
/// they are loaded.
const CHANGING: [&str; 3] = ["subnet_cmds", "class_cmds", "cb_cmds"];

/// Returns whether this version of Kea passes the answer to the client to `leases4_committed`. Then `pkt4_send`
/// is not needed.
pub const fn tells_answers(version: u32) -> bool {
    version >= FIRST_WITH_ANSWERS
}

/// Returns the callouts that this library does not need in a version of Kea with the configuration that is being
/// loaded (JSON text).
pub fn needless(version: u32, configuration: &[u8]) -> Vec<&'static str> {
    let mut needless = Vec::new();
    if tells_answers(version) {
        needless.push("pkt4_send");
    }
    if version < FIRST_WITH_TRACKING {
        // They serve only to attribute the changes that the lease manager reports.
        needless.extend(ANNOUNCING);
        needless.extend(ANNOUNCING_ENDS);
        return needless;
    }
    let Some(staged) = Staged::read(configuration) else {
        return needless;
    };
    if staged.has_threads_for_messages_alone() {
        needless.extend(ANNOUNCING);
    }
    if !staged.may_reserve_offers() {
        needless.push("lease4_offer");
    }
    needless
}

/// Returns whether clients' messages are announced if the callouts `needless` are deregistered. If not, each
/// change on another thread than Kea's main thread is made by a client's message.
pub fn announces(needless: &[&str]) -> bool {
    !ANNOUNCING.iter().any(|point| needless.contains(point))
}

/// A configuration whose libraries Kea is loading: the value of `Dhcp4`.
struct Staged(Value);

impl Staged {
    /// Parses the configuration; `None` if it does not list its libraries.
    fn read(configuration: &[u8]) -> Option<Staged> {
        let mut configuration: Value = serde_json::from_slice(configuration).ok()?;
        let staged = Staged(configuration.get_mut("Dhcp4")?.take());
        // When Kea only reloads its libraries (`libreload`), the configuration has none.
        let has_libraries = staged.libraries().next().is_some();
        has_libraries.then_some(staged)
    }

    /// Returns the files of the libraries.
    fn libraries(&self) -> impl Iterator<Item = &str> {
        let libraries = self.0["hooks-libraries"].as_array();
        let libraries = libraries.into_iter().flatten();
        libraries.map(|library| library["library"].as_str().unwrap_or_default())
    }

    /// Returns whether packet threads process clients' messages.
    fn has_packet_threads(&self) -> bool {
        self.0["multi-threading"]["enable-multi-threading"] == true
    }

    /// Returns whether packet threads change leases for clients' messages alone, and the main thread makes all
    /// other changes.
    fn has_threads_for_messages_alone(&self) -> bool {
        let is_known = |file: &str| {
            let (_, name) = file.rsplit_once('/').unwrap_or(("", file));
            let name = name.strip_prefix("libdhcp_");
            let name = name.and_then(|name| name.strip_suffix(".so"));
            name.is_some_and(|name| WITHOUT_THREADS.contains(&name))
        };
        // Messages from a DHCPv6 server take another path through Kea.
        let port = &self.0["dhcp4o6-port"];
        let is_alone = port.is_null() || *port == 0;
        self.has_packet_threads() && is_alone && self.libraries().all(is_known)
    }

    /// Returns whether an offer may reserve its address by this configuration, or by one that it may change to
    /// while in force.
    fn may_reserve_offers(&self) -> bool {
        let changes = |file: &str| CHANGING.iter().any(|name| file.contains(name));
        // Without packet threads the callout also marks the end of a client's message: later changes on that
        // thread have other causes.
        !self.has_packet_threads()
            || self.libraries().any(changes)
            || has_config_databases(&self.0)
            || has_offer_lifetime(&self.0)
    }
}

/// Returns whether databases may add to the configuration.
fn has_config_databases(dhcp4: &Value) -> bool {
    let databases = &dhcp4["config-control"]["config-databases"];
    databases.as_array().is_some_and(|all| !all.is_empty())
}

/// Returns whether `value` has an `offer-lifetime` other than 0 at any level: global, of a subnet, of a class.
fn has_offer_lifetime(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(name, value)| {
            (name == "offer-lifetime" && value.as_u64() != Some(0)) || has_offer_lifetime(value)
        }),
        Value::Array(values) => values.iter().any(has_offer_lifetime),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the callouts that are needless in a version with a configuration.
    fn needless_by(version: u32, dhcp4: &Value) -> Vec<&'static str> {
        needless(version, json!({ "Dhcp4": dhcp4 }).to_string().as_bytes())
    }

    /// Returns a configuration with packet threads, and with this library as the last one.
    fn threaded(mut dhcp4: Value) -> Value {
        dhcp4["multi-threading"] = json!({ "enable-multi-threading": true });
        let this = json!({ "library": "/a/libdhcp_blq.so" });
        match dhcp4["hooks-libraries"].as_array_mut() {
            Some(libraries) => libraries.push(this),
            None => dhcp4["hooks-libraries"] = json!([this]),
        }
        dhcp4
    }

    /// Returns a configuration with another library.
    fn with(mut dhcp4: Value, library: &str) -> Value {
        let libraries = dhcp4["hooks-libraries"].as_array_mut().unwrap();
        libraries.insert(0, json!({ "library": library }));
        dhcp4
    }

    #[test]
    fn nothing_is_announced_where_the_lease_manager_reports_nothing() {
        let needless = needless_by(2_02_00, &threaded(json!({})));
        assert_eq!(needless, [ANNOUNCING, ANNOUNCING_ENDS].concat());
    }

    #[test]
    fn messages_are_not_announced_where_their_threads_identify_them() {
        for dhcp4 in [
            threaded(json!({ "dhcp4o6-port": 0 })),
            with(
                threaded(json!({})),
                "/usr/lib/kea/hooks/libdhcp_lease_cmds.so",
            ),
            with(threaded(json!({})), "libdhcp_subnet_cmds.so"),
            // It changes leases on packet threads.
            with(threaded(json!({})), "libdhcp_ping_check.so"),
        ] {
            let needless = needless_by(2_06_03, &dhcp4);
            assert_eq!(needless[..2], ANNOUNCING, "{dhcp4}");
            assert!(!announces(&needless), "{dhcp4}");
        }
    }

    #[test]
    fn messages_are_announced_where_other_threads_may_change_leases_or_the_main_one_serves_clients()
    {
        let mut single = threaded(json!({}));
        single["multi-threading"] = json!({ "enable-multi-threading": false });
        for dhcp4 in [
            single,
            with(threaded(json!({})), "/a/libdhcp_ha.so"),
            with(threaded(json!({})), "/a/libdhcp_radius.so"),
            with(threaded(json!({})), "/a/libdhcp_lease_cmds.so/other"),
            with(threaded(json!({})), "lease_cmds"),
            with(threaded(json!({})), ""),
            threaded(json!({ "dhcp4o6-port": 786 })),
            threaded(json!({ "hooks-libraries": [7] })),
            json!({ "hooks-libraries": [] }),
            json!({}),
            json!(7),
        ] {
            assert!(announces(&needless_by(2_06_03, &dhcp4)), "{dhcp4}");
        }
        assert!(announces(&needless(2_06_03, b"{")));
        assert!(announces(&needless(2_06_03, b"{}")));
    }

    #[test]
    fn offers_are_needless_where_they_reserve_nothing() {
        let plain = threaded(json!({ "offer-lifetime": 0, "subnet4": [{ "id": 1 }] }));
        let foreign = with(plain, "/a/libforeign.so");
        assert_eq!(needless_by(2_06_03, &foreign), ["lease4_offer"]);
        assert_eq!(
            needless_by(3_00_03, &foreign),
            ["pkt4_send", "lease4_offer"]
        );
    }

    #[test]
    fn offers_are_needed_where_they_may_reserve_something() {
        let mut single = threaded(json!({}));
        single["multi-threading"] = json!({ "enable-multi-threading": false });
        let mut reloading = threaded(json!({}));
        reloading["hooks-libraries"] = json!([]);
        for dhcp4 in [
            threaded(json!({ "offer-lifetime": 60 })),
            threaded(json!({ "subnet4": [{ "id": 1, "offer-lifetime": 60 }] })),
            threaded(json!({ "client-classes": [{ "name": "a", "offer-lifetime": 60 }] })),
            threaded(json!({ "hooks-libraries": [{ "library": "/a/libdhcp_subnet_cmds.so" }] })),
            threaded(json!({ "hooks-libraries": [{ "library": "/a/libdhcp_class_cmds.so" }] })),
            threaded(json!({ "config-control": { "config-databases": [{ "type": "mysql" }] } })),
            single,
            reloading,
            json!({}),
            json!(7),
        ] {
            let needless = needless_by(2_06_03, &dhcp4);
            assert!(!needless.contains(&"lease4_offer"), "{dhcp4}");
        }
        assert_eq!(needless(2_06_03, b"{"), [""; 0]);
    }
}
