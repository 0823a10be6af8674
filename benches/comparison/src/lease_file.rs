//! Kea's lease file with generated leases.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use dhcp_blq::mirror::event::{Lease, LeaseState};

use crate::support::leases::{Client, Leases};

/// The columns of Kea's lease file.
const COLUMNS: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,\
    fqdn_rev,hostname,state,user_context,pool_id";

/// Writes all leases in the order of their last changes, as Kea 3.0 writes them with
/// `store-extended-info`.
pub fn write(leases: &Leases, file: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "{COLUMNS}")?;
    for change in leases.changes(0..leases.count) {
        let (lease, client) = leases.last_lease(change.number, change.at);
        write_row(&lease, &client, &mut out)?;
    }
    out.flush()
}

/// Writes one lease.
fn write_row(lease: &Lease, client: &Client, out: &mut impl Write) -> io::Result<()> {
    let state = match lease.state {
        LeaseState::Default => 0,
        LeaseState::Declined => 1,
        LeaseState::ExpiredReclaimed => 2,
        LeaseState::Released => 3,
    };
    writeln!(
        out,
        "{},{},{},{},{},{},0,0,{},{state},{},0",
        lease.address,
        digits(&lease.hardware.octets, ":"),
        digits(&lease.client_id, ":"),
        lease.valid_lifetime.0,
        u64::from(lease.cltt.0) + u64::from(lease.valid_lifetime.0),
        lease.subnet.0,
        String::from_utf8_lossy(&lease.hostname),
        user_context(client),
    )
}

/// Octets as hexadecimal digits.
fn digits(octets: &[u8], between: &str) -> String {
    let pairs: Vec<String> = octets.iter().map(|octet| format!("{octet:02X}")).collect();
    pairs.join(between)
}

/// The relay agent information that Kea stores with a lease, as a field of the lease file.
fn user_context(client: &Client) -> String {
    let id = |name: &str, id: &[u8]| match id {
        [] => String::new(),
        _ => format!(r#""{name}": "{}", "#, digits(id, "")),
    };
    let context = format!(
        r#"{{ "ISC": {{ "relay-agent-info": {{ {}{}"sub-options": "0x{}" }} }} }}"#,
        id("relay-id", &client.relay_id),
        id("remote-id", &client.remote_id),
        digits(&client.relay_agent_information(), ""),
    );
    // Kea's escape for a comma in a field.
    context.replace(',', "&#x2c")
}

#[cfg(test)]
mod tests {
    use crate::support::leases::Set;

    use super::*;

    /// The lines of the file with the leases of a set.
    fn lines(set: Set) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let leases = Leases::new(set, 2_000, 4_000, 1_700_000_000);
        write(&leases, file.path()).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn writes_rows_with_as_many_fields_as_columns() {
        for set in Set::ALL {
            let fields: Vec<usize> = lines(set)
                .iter()
                .map(|line| line.split(',').count())
                .collect();
            assert_eq!(fields, [12; 2_001], "{set:?}");
        }
    }

    #[test]
    fn writes_the_sub_options_of_a_relay_agent() {
        let line = lines(Set::Uniform).pop().unwrap();
        let remote_id = digits(format!("line {:023}", 1_999).as_bytes(), "");
        let value = format!(r#""sub-options": "0x021C{remote_id}0C080000000000000009""#);
        assert!(line.contains(&value), "{line}");
    }

    #[test]
    fn writes_each_address_once() {
        for set in Set::ALL {
            let mut addresses: Vec<String> = lines(set)
                .iter()
                .filter_map(|line| line.split(',').next().map(str::to_owned))
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            assert_eq!(addresses.len(), 2_001, "{set:?}");
        }
    }
}
