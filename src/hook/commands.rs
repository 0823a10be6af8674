//! Which leases a control command changed.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::binding::SubnetId;

/// What a command may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// The lease of one address.
    Address(Ipv4Addr),
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
    match (address, subnet) {
        (Some(address), _) => Some(Touched::Address(address)),
        (None, Some(subnet)) => Some(Touched::Subnet(SubnetId(subnet))),
        (None, None) => Some(Touched::Everything),
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
            assert_eq!(touched(name, arguments, DONE), Some(address));
        }
    }

    #[test]
    fn finds_the_subnet_of_what_was_deleted_otherwise() {
        let by_identifier =
            br#"{ "identifier-type": "hw-address", "identifier": "01", "subnet-id": 4 }"#;
        let subnet = Some(Touched::Subnet(SubnetId(4)));
        assert_eq!(touched("lease4-del", by_identifier, DONE), subnet);
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
