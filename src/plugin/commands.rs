//! What a control command changed.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::mirror::Identity;
use crate::mirror::event::Origin;
use crate::model::address::HardwareAddress;
use crate::model::binding::SubnetId;
use crate::model::hex;

/// What a high-availability partner's commands say of where they come from, from Kea 2.6 on.
const PARTNER: &str = "ha-partner";

/// What a command may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// The lease of one address, which is there still, and who changed it.
    Changed(Ipv4Addr, Origin),
    /// The lease of one address, which a client gave back to a partner.
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

/// Whether a command may have changed anything: only then is it worth reading its arguments and
/// its response, which may be all leases there are.
pub fn may_change(name: &str) -> bool {
    CHANGING_LEASES.contains(&name) || name == SYNCHRONISATION || may_reconfigure(name)
}

/// The commands of Kea's lease_cmds library that change leases.
const CHANGING_LEASES: [&str; 4] = ["lease4-add", "lease4-update", "lease4-del", "lease4-wipe"];

/// The command that has leases copied from a high-availability partner.
const SYNCHRONISATION: &str = "ha-sync";

/// Reads from a command's name, arguments and response (as JSON text) what it changed; `None` if
/// it changed no lease.
///
/// The commands are those of Kea's lease_cmds library, which high-availability partners use too.
/// What they changed is read again from the lease database: an argument may be left out or be
/// overruled.
pub fn touched(name: &str, arguments: &[u8], response: &[u8]) -> Option<Touched> {
    if !CHANGING_LEASES.contains(&name) || !succeeded(response) {
        return None;
    }
    let arguments: Value = serde_json::from_slice(arguments).unwrap_or_default();
    let address = arguments
        .get("ip-address")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    let subnet = arguments
        .get("subnet-id")
        .and_then(Value::as_u64)
        .and_then(|id| u32::try_from(id).ok())
        // 0 is no subnet's number: it stands for all of them.
        .filter(|id| *id != 0);
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

/// Whether a command may have changed Kea's configuration while it runs: subnets, shared
/// networks, classes, host reservations. Those of a whole configuration load all libraries anew.
pub fn reconfigures(name: &str, response: &[u8]) -> bool {
    may_reconfigure(name) && succeeded(response)
}

/// The same by its name alone.
fn may_reconfigure(name: &str) -> bool {
    const FAMILIES: [&str; 4] = ["subnet4-", "network4-", "reservation-", "class-"];
    const READING: [&str; 3] = ["-get", "-list", "-hash"];
    FAMILIES.iter().any(|family| name.starts_with(family))
        && !READING.iter().any(|part| name.contains(part))
}

/// Whether a command had leases copied from a high-availability partner, of which Kea 2.2 tells
/// nobody.
pub fn synchronises(name: &str, response: &[u8]) -> bool {
    name == SYNCHRONISATION && succeeded(response)
}

/// Whether Kea's response tells of success.
fn succeeded(response: &[u8]) -> bool {
    let response: Value = serde_json::from_slice(response).unwrap_or_default();
    response.get("result").and_then(Value::as_i64) == Some(0)
}

/// Who sent a lease command. Kea 2.2's partners do not say so, but give leases in a form of
/// their own: with the time they expire and, but for deletions, with `force-create`.
fn origin(arguments: &Value, deleted: bool) -> Origin {
    let says_so = arguments.get("origin").and_then(Value::as_str) == Some(PARTNER);
    let has = |name| arguments.get(name).is_some();
    let form = has("expire") && has("state") && (deleted || has("force-create"));
    if says_so || form {
        Origin::Remote
    } else {
        Origin::Local
    }
}

/// The client that a command's arguments name, if they do.
fn identity(arguments: &Value) -> Option<Identity> {
    let identifier = hex::read_identifier(arguments.get("identifier")?.as_str()?)?;
    match arguments.get("identifier-type")?.as_str()? {
        "hw-address" => Some(Identity::Mac(HardwareAddress {
            // Kea takes an address without a type for Ethernet's.
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

    /// Kea's answer to a command that was done.
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
    fn tells_a_partners_commands_from_an_administrators() {
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
    fn tells_what_changes_the_configuration_from_what_reads_it() {
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
    fn finds_the_subnet_of_what_was_deleted_otherwise() {
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
    fn leaves_out_what_failed_and_what_changes_no_lease() {
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
