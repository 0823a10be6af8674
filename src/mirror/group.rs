//! Groups: short hashes of relay-ids and remote-ids, by which a search leaves out most bindings of other relay agents
//! and access nodes without a look at them.

use crate::model::client::ClientRef;

/// The bits of a [`Groups`] with the group of the relay-id.
const RELAY: u16 = 0xff00;
/// The bits of a [`Groups`] with the group of the remote-id.
const REMOTE: u16 = 0x00ff;

/// The groups of a binding: that of its relay-id, and that of its remote-id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Groups(pub u16);

/// Selects the bindings of a group: all of one identifier, and perhaps some of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFilter {
    /// The bits that are compared.
    mask: u16,
    /// The values of these bits in the groups selected.
    groups: u16,
}

impl Groups {
    /// Returns the groups of the binding of a client.
    pub fn of(client: ClientRef<'_>) -> Groups {
        let [relay, remote] = [client.relay_id(), client.remote_id()].map(group);
        Groups(u16::from_be_bytes([relay, remote]))
    }
}

impl GroupFilter {
    /// Selects all bindings.
    pub const ALL: GroupFilter = GroupFilter { mask: 0, groups: 0 };

    /// Selects the bindings of a relay-id.
    pub fn relay_id(id: &[u8]) -> GroupFilter {
        GroupFilter {
            mask: RELAY,
            groups: u16::from_be_bytes([group(id), 0]),
        }
    }

    /// Selects the bindings of a remote-id.
    pub fn remote_id(id: &[u8]) -> GroupFilter {
        GroupFilter {
            mask: REMOTE,
            groups: group(id).into(),
        }
    }

    /// Whether bindings of these groups are selected.
    #[inline(always)]
    pub fn selects(self, groups: Groups) -> bool {
        groups.0 & self.mask == self.groups
    }
}

/// Returns the group of an identifier: eight bits of a hash.
///
/// Whoever chooses identifiers of one group makes searches for them slower, but not wrong.
pub fn group(id: &[u8]) -> u8 {
    /// Mixes eight octets into a hash.
    fn mix(hash: u64, octets: [u8; 8]) -> u64 {
        let mixed = (hash ^ u64::from_le_bytes(octets)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    }
    let mut hash = id.len() as u64;
    let hash = match id.last_chunk() {
        // The last eight octets may overlap those before.
        Some(last) => {
            for octets in id.chunks_exact(8) {
                hash = mix(hash, octets.try_into().unwrap_or_default());
            }
            mix(hash, *last)
        }
        None => {
            let mut octets = [0; 8];
            octets.iter_mut().zip(id).for_each(|(to, from)| *to = *from);
            mix(hash, octets)
        }
    };
    (hash >> 24) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{Client, ClientParts};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proto::sub_option;

    /// Returns relay agent information with these identifiers.
    fn information(relay_id: &[u8], remote_id: &[u8]) -> Vec<u8> {
        let sub_option = |code: u8, id: &[u8]| [&[code, id.len() as u8], id].concat();
        let remote_id = sub_option(sub_option::REMOTE_ID, remote_id);
        [remote_id, sub_option(sub_option::RELAY_ID, relay_id)].concat()
    }

    proptest! {
        #[test]
        fn the_filter_of_an_identifier_selects_its_bindings(
            relay_id in vec(any::<u8>(), 1..40),
            remote_id in vec(any::<u8>(), 1..40),
        ) {
            let client = Client::from(&ClientParts {
                relay_agent_information: &information(&relay_id, &remote_id),
                ..ClientParts::default()
            });
            let groups = Groups::of(client.view());
            prop_assert!(GroupFilter::relay_id(&relay_id).selects(groups));
            prop_assert!(GroupFilter::remote_id(&remote_id).selects(groups));
            prop_assert!(GroupFilter::ALL.selects(groups));
        }
    }

    #[test]
    fn identifiers_that_differ_in_one_place_are_in_many_groups() {
        for length in [1, 6, 8, 15, 27] {
            for place in 0..length {
                let mut groups: Vec<u8> = (0..=u8::MAX)
                    .map(|octet| {
                        let mut id = vec![b'a'; length];
                        id[place] = octet;
                        group(&id)
                    })
                    .collect();
                groups.sort_unstable();
                groups.dedup();
                // 162 groups of 256, if they were drawn at random.
                assert!(groups.len() > 100, "{length}, {place}: {}", groups.len());
            }
        }
    }
}
