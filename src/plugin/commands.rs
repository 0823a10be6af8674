//! The changes that a control command makes.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::mirror::Identity;
use crate::mirror::event::Origin;
use crate::model::address::HardwareAddress;
use crate::model::binding::SubnetId;
use crate::model::hex;

/// The value of `origin` in a high-availability partner's commands, from Kea 2.6 on.
const PARTNER: &str = "ha-partner";

/// The leases that a command may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// The lease of one address, which still exists, and the server that changed it.
    Changed(Ipv4Addr, Origin),
    /// The lease of one address, which a client released to a partner.
    ReleasedElsewhere(Ipv4Addr),
    /// The lease of one address, which an administrator deleted.
    Deleted(Ipv4Addr),
    /// A client's lease in one subnet.
    Client(Identity, SubnetId),
    /// Leases of one subnet.
    Subnet(SubnetId),
    /// Leases of any subnet.
    Everything,
}

/// Returns whether a command may have changed leases or Kea's configuration. Only then are its arguments and
/// its response worth reading, which may hold every lease.
pub fn may_change(name: &str) -> bool {
    CHANGING_LEASES.contains(&name) || name == SYNCHRONISATION || may_reconfigure(name)
}

/// The commands of Kea's lease_cmds library that change leases.
const CHANGING_LEASES: [&str; 4] = ["lease4-add", "lease4-update", "lease4-del", "lease4-wipe"];

/// The command that copies leases from a high-availability partner.
const SYNCHRONISATION: &str = "ha-sync";

/// Returns the leases that a command changed, by its name, arguments and response (as JSON text); `None` if it
/// changed no lease.
///
/// The commands are those of Kea's lease_cmds library, which high-availability partners use, too. Arguments
/// may be missing or overruled, so the leases themselves are read from the lease database.
pub fn touched(name: &str, arguments: &[u8], response: &[u8]) -> Option<Touched> {
    if !CHANGING_LEASES.contains(&name) || !succeeded(response) {
        return None;
    }
    let arguments: Value = serde_json::from_slice(arguments).unwrap_or_default();
    let address = arguments["ip-address"].as_str();
    let address = address.and_then(|text| text.parse().ok());
    let subnet = arguments["subnet-id"].as_u64();
    let subnet = subnet.and_then(|id| u32::try_from(id).ok());
    // 0 is not the number of a subnet: it stands for all subnets.
    let subnet = subnet.filter(|id| *id != 0);
    let deleted = matches!(name, "lease4-del" | "lease4-wipe");
    let origin = origin(&arguments, deleted);
    Some(match (address, subnet, identity(&arguments)) {
        (Some(address), ..) => match (deleted, origin) {
            (false, _) => Touched::Changed(address, origin),
            (true, Origin::Local) => Touched::Deleted(address),
            (true, Origin::Remote) => Touched::ReleasedElsewhere(address),
        },
        (None, Some(subnet), Some(client)) => Touched::Client(client, SubnetId(subnet)),
        (None, Some(subnet), None) => Touched::Subnet(SubnetId(subnet)),
        (None, None, _) => Touched::Everything,
    })
}

/// Returns whether a command may have changed Kea's configuration in force: subnets, shared networks, classes,
/// host reservations. Commands that replace the whole configuration reload all libraries.
pub fn reconfigures(name: &str, response: &[u8]) -> bool {
    may_reconfigure(name) && succeeded(response)
}

/// Returns whether a command of this name may change Kea's configuration in force.
fn may_reconfigure(name: &str) -> bool {
    const FAMILIES: [&str; 4] = ["subnet4-", "network4-", "reservation-", "class-"];
    const READING: [&str; 3] = ["-get", "-list", "-hash"];
    FAMILIES.iter().any(|family| name.starts_with(family))
        && !READING.iter().any(|part| name.contains(part))
}

/// Returns whether a command copied leases from a high-availability partner, which Kea 2.2 does not report.
pub fn synchronises(name: &str, response: &[u8]) -> bool {
    name == SYNCHRONISATION && succeeded(response)
}

/// Returns whether Kea's response is one of success.
fn succeeded(response: &[u8]) -> bool {
    let response: Value = serde_json::from_slice(response).unwrap_or_default();
    // Kea 3.2 has 5 beside 1, for a reconfiguration that failed half-way.
    response["result"] == 0
}

/// Returns the origin of a lease command. Partners of version 2.2 do not give it, but write leases in a form of
/// their own: with the time of expiry and, except in deletions, with `force-create`.
fn origin(arguments: &Value, deleted: bool) -> Origin {
    let says_so = arguments["origin"] == PARTNER;
    let has = |name| arguments.get(name).is_some();
    let form = has("expire") && has("state") && (deleted || has("force-create"));
    if says_so || form {
        Origin::Remote
    } else {
        Origin::Local
    }
}

/// Returns the client that a command's arguments name, if they do.
fn identity(arguments: &Value) -> Option<Identity> {
    let identifier = hex::read_identifier(arguments["identifier"].as_str()?)?;
    match arguments["identifier-type"].as_str()? {
        "hw-address" => Some(Identity::Mac(HardwareAddress {
            // To Kea, an address without a type is of Ethernet.
            htype: 1,
            octets: identifier,
        })),
        "client-id" => Some(Identity::ClientId(identifier)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kea's response to a command that succeeded.
    const DONE: &[u8] = br#"{ "result": 0, "text": "done" }"#;

    #[test]
    fn finds_the_address_added_changed_or_deleted() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let arguments = br#"{ "ip-address": "192.0.2.7", "subnet-id": 4 }"#;
        let changed = Some(Touched::Changed(address, Origin::Local));
        assert_eq!(touched("lease4-add", arguments, DONE), changed);
        assert_eq!(touched("lease4-update", arguments, DONE), changed);
        let deleted = Some(Touched::Deleted(address));
        assert_eq!(touched("lease4-del", arguments, DONE), deleted);
    }

    #[test]
    fn distinguishes_a_partners_commands_from_an_administrators() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let changed = Some(Touched::Changed(address, Origin::Remote));
        let released = Some(Touched::ReleasedElsewhere(address));
        // As Kea 2.6 and later send them, and as 2.2 does.
        let later = br#"{ "ip-address": "192.0.2.7", "origin": "ha-partner" }"#;
        assert_eq!(touched("lease4-update", later, DONE), changed);
        assert_eq!(touched("lease4-del", later, DONE), released);
        let early = br#"{ "ip-address": "192.0.2.7", "expire": 1, "force-create": true,
            "hw-address": "02:00", "state": 0, "subnet-id": 1, "valid-lft": 4000 }"#;
        assert_eq!(touched("lease4-update", early, DONE), changed);
        let early = br#"{ "ip-address": "192.0.2.7", "expire": 1, "hw-address": "02:00",
            "state": 0, "subnet-id": 1, "valid-lft": 4000 }"#;
        assert_eq!(touched("lease4-del", early, DONE), released);
    }

    #[test]
    fn distinguishes_commands_that_change_the_configuration_from_those_that_read_it() {
        for name in [
            "subnet4-add",
            "subnet4-delta-del",
            "reservation-add",
            "class-update",
        ] {
            assert!(reconfigures(name, DONE), "{name}");
            assert!(!reconfigures(name, br#"{ "result": 1 }"#), "{name}");
        }
        for name in [
            "subnet4-get",
            "subnet4-list",
            "reservation-get-all",
            "config-set",
        ] {
            assert!(!reconfigures(name, DONE), "{name}");
        }
    }

    #[test]
    fn finds_the_client_whose_lease_was_deleted() {
        let by_mac =
            br#"{ "identifier-type": "hw-address", "identifier": "02:0a", "subnet-id": 4 }"#;
        let mac = Identity::Mac(HardwareAddress {
            htype: 1,
            octets: vec![2, 10],
        });
        let expected = Some(Touched::Client(mac, SubnetId(4)));
        assert_eq!(touched("lease4-del", by_mac, DONE), expected);
        let by_client_id =
            br#"{ "identifier-type": "client-id", "identifier": "0102", "subnet-id": 4 }"#;
        let client = Identity::ClientId(vec![1, 2]);
        let expected = Some(Touched::Client(client, SubnetId(4)));
        assert_eq!(touched("lease4-del", by_client_id, DONE), expected);
    }

    #[test]
    fn finds_the_subnet_of_leases_deleted_by_other_identifiers() {
        let by_other = br#"{ "identifier-type": "flex-id", "identifier": "01", "subnet-id": 4 }"#;
        let subnet = Some(Touched::Subnet(SubnetId(4)));
        assert_eq!(touched("lease4-del", by_other, DONE), subnet);
        assert_eq!(
            touched("lease4-wipe", br#"{ "subnet-id": 4 }"#, DONE),
            subnet
        );
    }

    #[test]
    fn takes_a_wipe_without_a_subnet_as_one_of_all() {
        for arguments in [&b""[..], br#"{ "subnet-id": 0 }"#] {
            assert_eq!(
                touched("lease4-wipe", arguments, DONE),
                Some(Touched::Everything)
            );
        }
    }

    #[test]
    fn ignores_commands_that_failed_or_change_no_lease() {
        let arguments = br#"{ "ip-address": "192.0.2.7" }"#;
        for response in [
            &br#"{ "result": 1 }"#[..],
            br#"{ "result": 3 }"#,
            b"[]",
            b"",
        ] {
            assert_eq!(touched("lease4-del", arguments, response), None);
        }
        for name in ["lease4-get", "lease6-del", "config-get"] {
            assert_eq!(touched(name, arguments, DONE), None);
        }
    }
}
