//! Which leases a control command changed.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::binding::{HardwareAddress, SubnetId};
use crate::hex;
use crate::mirror::Identity;

/// What a command may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// The lease of one address.
    Address(Ipv4Addr),
    /// A client's lease in one subnet.
    Client(Identity, SubnetId),
    /// Leases of one subnet.
    Subnet(SubnetId),
    /// Leases of any subnet.
    Everything,
}

/// Reads from a command's name, arguments and response (as JSON text) what it changed; `None` if
/// it changed no lease.
///
/// The commands are those of Kea's lease_cmds library. What they changed is read again from the
/// lease database: an argument may be left out or be overruled, and a partner server's commands
/// look like an administrator's.
pub fn touched(name: &str, arguments: &[u8], response: &[u8]) -> Option<Touched> {
    if !matches!(
        name,
        "lease4-add" | "lease4-update" | "lease4-del" | "lease4-wipe"
    ) {
        return None;
    }
    let response: Value = serde_json::from_slice(response).ok()?;
    if response.get("result")?.as_i64()? != 0 {
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
    Some(match (address, subnet, identity(&arguments)) {
        (Some(address), ..) => Touched::Address(address),
        (None, Some(subnet), Some(client)) => Touched::Client(client, SubnetId(subnet)),
        (None, Some(subnet), None) => Touched::Subnet(SubnetId(subnet)),
        (None, None, _) => Touched::Everything,
    })
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
        let address = Touched::Address(Ipv4Addr::new(192, 0, 2, 7));
        for name in ["lease4-add", "lease4-update", "lease4-del"] {
            let arguments = br#"{ "ip-address": "192.0.2.7", "subnet-id": 4 }"#;
            assert_eq!(touched(name, arguments, DONE), Some(address.clone()));
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
