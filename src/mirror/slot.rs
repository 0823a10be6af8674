//! A binding in its page: fields of fixed size, and the octets of its client.
//!
//! ```text
//!  0   start of the state
//!  4   last transaction
//!  8   start of the lease
//! 12   lifetime
//! 16   subnet id
//! 20   learned at
//! 24   reserved until
//! 28   length of the client's octets
//! 32   state
//! 33   flags: the optional fields that are present, and the origin
//! 34   group
//! 35   the client's octets
//! ```
//!
//! Numbers are little-endian. The place in the page determines the address.

use std::net::Ipv4Addr;

use crate::mirror::group::group;
use crate::model::binding::{BindingRef, SubnetId};
use crate::model::client::ClientRef;
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};

/// The size of a slot without the client's octets.
pub const FIXED: usize = GROUP + 1;

// Offsets of the fields.
const SINCE: usize = 0;
const LAST_TRANSACTION: usize = 4;
const LEASE_START: usize = 8;
const LIFETIME: usize = 12;
const SUBNET: usize = 16;
const LEARNED_AT: usize = 20;
const RESERVED_UNTIL: usize = 24;
const CLIENT_LENGTH: usize = 28;
const STATE: usize = 32;
const FLAGS: usize = 33;
const GROUP: usize = 34;

// Flags.
const HAS_LAST_TRANSACTION: u8 = 1;
const HAS_LEARNED_AT: u8 = 2;
const HAS_RESERVED_UNTIL: u8 = 4;
const HAS_CLIENT: u8 = 8;
const IS_REMOTE: u8 = 16;

/// A slot in its page.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// The fields of fixed size.
    fixed: &'a [u8; FIXED],
    /// The octets of the page after these, which begin with those of the client.
    rest: &'a [u8],
}

impl<'a> Slot<'a> {
    /// Returns the slot at the beginning of `octets`.
    #[inline]
    pub fn first_of(octets: &'a [u8]) -> Option<Slot<'a>> {
        let (fixed, rest) = octets.split_first_chunk()?;
        Some(Slot { fixed, rest })
    }

    /// Packs the fields of fixed size of a binding.
    pub fn pack(binding: BindingRef<'_>) -> [u8; FIXED] {
        let mut packed = [0; FIXED];
        let mut put = |offset: usize, number: u32| {
            packed[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
        };
        put(SINCE, binding.since.0);
        put(
            LAST_TRANSACTION,
            binding.last_transaction.unwrap_or_default().0,
        );
        put(LEASE_START, binding.lease_start.0);
        put(LIFETIME, binding.lifetime.0);
        put(SUBNET, binding.subnet.0);
        put(LEARNED_AT, binding.learned_at.unwrap_or_default().0);
        put(RESERVED_UNTIL, binding.reserved_until.unwrap_or_default().0);
        // Parts of a DHCP message: they fit in 32 bits.
        put(CLIENT_LENGTH, client_octets(binding).len() as u32);
        packed[STATE] = binding.state as u8;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        packed[FLAGS] = flag(binding.last_transaction.is_some(), HAS_LAST_TRANSACTION)
            | flag(binding.learned_at.is_some(), HAS_LEARNED_AT)
            | flag(binding.reserved_until.is_some(), HAS_RESERVED_UNTIL)
            | flag(binding.client.is_some(), HAS_CLIENT)
            | flag(binding.remote, IS_REMOTE);
        packed[GROUP] = (binding.client).map_or(0, |client| group(client.relay_id()));
        packed
    }

    /// Returns the binding of `address`.
    #[inline]
    pub fn binding(self, address: u32) -> BindingRef<'a> {
        let has = |flag: u8| self.fixed[FLAGS] & flag != 0;
        let time = |offset| Time(self.number(offset));
        BindingRef {
            address: Ipv4Addr::from_bits(address),
            // Every slot was packed from a state.
            state: State::from_value(self.fixed[STATE]).unwrap_or(State::Available),
            since: time(SINCE),
            last_transaction: has(HAS_LAST_TRANSACTION).then_some(time(LAST_TRANSACTION)),
            lease_start: time(LEASE_START),
            lifetime: Lifetime(self.number(LIFETIME)),
            subnet: self.subnet(),
            client: has(HAS_CLIENT).then(|| self.client()),
            remote: has(IS_REMOTE),
            learned_at: has(HAS_LEARNED_AT).then_some(time(LEARNED_AT)),
            reserved_until: has(HAS_RESERVED_UNTIL).then_some(time(RESERVED_UNTIL)),
        }
    }

    /// Returns the client, without octets if the binding has none.
    #[inline]
    pub fn client(self) -> ClientRef<'a> {
        ClientRef::from_octets(self.rest.get(..self.size() - FIXED).unwrap_or_default())
    }

    /// Returns the id of the subnet.
    #[inline]
    pub fn subnet(self) -> SubnetId {
        SubnetId(self.number(SUBNET))
    }

    /// Returns the size of the slot.
    #[inline]
    pub fn size(self) -> usize {
        FIXED + self.number(CLIENT_LENGTH) as usize
    }

    /// Returns the group: equal for the clients of one relay agent.
    #[inline]
    pub fn group(self) -> u8 {
        self.fixed[GROUP]
    }

    /// Returns the number at an offset.
    #[inline]
    fn number(self, offset: usize) -> u32 {
        let octets = self.fixed.get(offset..).and_then(<[u8]>::first_chunk);
        octets.map_or(0, |octets| u32::from_le_bytes(*octets))
    }
}

/// Returns the octets of a binding's client; none without a client.
pub fn client_octets<'a>(binding: BindingRef<'a>) -> &'a [u8] {
    binding.client.map(ClientRef::octets).unwrap_or_default()
}
