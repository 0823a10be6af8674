//! Which of its callouts this library can do without.
//!
//! Kea registers every callout of a library by its name. To call one costs Kea more than what is
//! done there: it makes the arguments, and for `leases4_committed` and `lease4_offer` it parks the
//! packet as well, which takes as long as a twentieth of all it does for a client.

use serde_json::Value;

/// The first version whose lease manager tells of changes, and which calls `lease4_offer`.
const FIRST_WITH_OFFERS: u32 = 2_04_00;

/// The first version that gives `leases4_committed` the answer to the client, too.
const FIRST_WITH_ANSWERS: u32 = 3_00_00;

/// Kea's libraries that change a configuration in force, by a part of their names: what they
/// change it to is not known when they are loaded.
const CHANGING: [&str; 3] = ["subnet_cmds", "class_cmds", "cb_cmds"];

/// Whether `leases4_committed` tells in this version of Kea how the client is answered. Then
/// `pkt4_send` has nothing to add.
pub const fn tells_answers(version: u32) -> bool {
    version >= FIRST_WITH_ANSWERS
}

/// The callouts of which nothing can come in this version of Kea, by the configuration that it
/// is loading the libraries of, as JSON text.
pub fn needless(version: u32, configuration: &[u8]) -> Vec<&'static str> {
    let mut needless = Vec::new();
    if tells_answers(version) {
        needless.push("pkt4_send");
    }
    if version >= FIRST_WITH_OFFERS && !may_reserve_offers(configuration) {
        needless.push("lease4_offer");
    }
    needless
}

/// Whether an offer may reserve its address by this configuration, or by what may become of it
/// while it is in force.
fn may_reserve_offers(configuration: &[u8]) -> bool {
    let Ok(configuration) = serde_json::from_slice::<Value>(configuration) else {
        return true;
    };
    let dhcp4 = &configuration["Dhcp4"];
    // When Kea only loads its libraries anew (`libreload`), it gives one that has none.
    let libraries = dhcp4["hooks-libraries"].as_array();
    let Some(libraries) = libraries.filter(|libraries| !libraries.is_empty()) else {
        return true;
    };
    // In a single thread the end of an offer must be heard of: leases that change next on that
    // thread change by something else.
    let has_packet_threads = dhcp4["multi-threading"]["enable-multi-threading"] == true;
    let changes = libraries.iter().any(|library| {
        let file = library["library"].as_str().unwrap_or_default();
        CHANGING.iter().any(|name| file.contains(name))
    });
    !has_packet_threads || changes || has_config_databases(dhcp4) || has_offer_lifetime(dhcp4)
}

/// Whether databases may add to the configuration.
fn has_config_databases(dhcp4: &Value) -> bool {
    let databases = &dhcp4["config-control"]["config-databases"];
    databases.as_array().is_some_and(|all| !all.is_empty())
}

/// Whether an `offer-lifetime` other than 0 is somewhere in it: of all, of a subnet, of a class.
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

    /// What is needless in a version by a configuration.
    fn needless_by(version: u32, dhcp4: &Value) -> Vec<&'static str> {
        needless(version, json!({ "Dhcp4": dhcp4 }).to_string().as_bytes())
    }

    /// A configuration with packet threads, and this library as the last one.
    fn threaded(mut dhcp4: Value) -> Value {
        dhcp4["multi-threading"] = json!({ "enable-multi-threading": true });
        let this = json!({ "library": "/a/libdhcp_blq.so" });
        match dhcp4["hooks-libraries"].as_array_mut() {
            Some(libraries) => libraries.push(this),
            None => dhcp4["hooks-libraries"] = json!([this]),
        }
        dhcp4
    }

    #[test]
    fn offers_are_needless_where_they_reserve_nothing() {
        let plain = threaded(json!({ "offer-lifetime": 0, "subnet4": [{ "id": 1 }] }));
        assert_eq!(needless_by(2_02_00, &plain), [""; 0]);
        assert_eq!(needless_by(2_06_03, &plain), ["lease4_offer"]);
        assert_eq!(needless_by(3_00_03, &plain), ["pkt4_send", "lease4_offer"]);
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
            assert_eq!(needless_by(2_06_03, &dhcp4), [""; 0], "{dhcp4}");
        }
        assert_eq!(needless(2_06_03, b"{"), [""; 0]);
    }
}
