//! The fixed-size part of a binding in a page.
//!
//! ```text
//!  0   start-time-of-state
//!  4   last transaction
//!  8   start of the lease
//! 12   lifetime
//! 16   subnet id
//! 20   learned at
//! 24   reserved until
//! 28   offset of the client's octets in those of the page
//! 32   length of the client's octets
//! 36   state
//! 37   flags: the optional fields that are present, and the origin
//! ```
//!
//! Numbers are little-endian. The place in the page determines the address.

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::model::binding::{BindingRef, SubnetId};
use crate::model::client::ClientRef;
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};

/// The size of a slot in octets.
pub const SIZE: usize = FLAGS + 1;

// Offsets of the fields.
const SINCE: usize = 0;
const LAST_TRANSACTION: usize = 4;
const LEASE_START: usize = 8;
const LIFETIME: usize = 12;
const SUBNET: usize = 16;
const LEARNED_AT: usize = 20;
const RESERVED_UNTIL: usize = 24;
const CLIENT_START: usize = 28;
const CLIENT_LENGTH: usize = 32;
const STATE: usize = 36;
const FLAGS: usize = 37;

// Flags.
const HAS_LAST_TRANSACTION: u8 = 1;
const HAS_LEARNED_AT: u8 = 2;
const HAS_RESERVED_UNTIL: u8 = 4;
const HAS_CLIENT: u8 = 8;
const IS_REMOTE: u8 = 16;

/// A slot in its page.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a>(&'a [u8; SIZE]);

impl<'a> Slot<'a> {
    /// Returns the slot at the beginning of `octets`.
    #[inline]
    pub fn first_of(octets: &'a [u8]) -> Option<Slot<'a>> {
        octets.first_chunk().map(Slot)
    }
}

impl Slot<'_> {
    /// Packs a binding whose client's octets begin at `start`.
    pub fn pack(binding: BindingRef<'_>, start: usize) -> [u8; SIZE] {
        let mut packed = [0; SIZE];
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
        // Both fit in 32 bits: a page holds parts of at most 256 DHCP messages.
        put(CLIENT_START, start as u32);
        put(CLIENT_LENGTH, client_octets(binding).len() as u32);
        packed[STATE] = binding.state as u8;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        packed[FLAGS] = flag(binding.last_transaction.is_some(), HAS_LAST_TRANSACTION)
            | flag(binding.learned_at.is_some(), HAS_LEARNED_AT)
            | flag(binding.reserved_until.is_some(), HAS_RESERVED_UNTIL)
            | flag(binding.client.is_some(), HAS_CLIENT)
            | flag(binding.remote, IS_REMOTE);
        packed
    }

    /// Returns the binding of `address`; `octets` are those of the page.
    #[inline]
    pub fn binding(self, address: u32, octets: &[u8]) -> BindingRef<'_> {
        let has = |flag: u8| self.0[FLAGS] & flag != 0;
        let time = |offset| Time(self.number(offset));
        BindingRef {
            address: Ipv4Addr::from_bits(address),
            // Every slot was packed from a state.
            state: State::from_value(self.0[STATE]).unwrap_or(State::Available),
            since: time(SINCE),
            last_transaction: has(HAS_LAST_TRANSACTION).then_some(time(LAST_TRANSACTION)),
            lease_start: time(LEASE_START),
            lifetime: Lifetime(self.number(LIFETIME)),
            subnet: SubnetId(self.number(SUBNET)),
            client: has(HAS_CLIENT).then(|| self.client(octets)),
            remote: has(IS_REMOTE),
            learned_at: has(HAS_LEARNED_AT).then_some(time(LEARNED_AT)),
            reserved_until: has(HAS_RESERVED_UNTIL).then_some(time(RESERVED_UNTIL)),
        }
    }

    /// Returns the client, without octets if the binding has none; `octets` are those of the page.
    #[inline]
    pub fn client(self, octets: &[u8]) -> ClientRef<'_> {
        ClientRef::from_octets(octets.get(self.client_range()).unwrap_or_default())
    }

    /// Returns the range of the client's octets in those of the page.
    #[inline]
    pub fn client_range(self) -> Range<usize> {
        let (start, length) = (self.number(CLIENT_START), self.number(CLIENT_LENGTH));
        start as usize..(start + length) as usize
    }

    /// Returns the start-time-of-state.
    #[inline]
    pub fn since(self) -> Time {
        Time(self.number(SINCE))
    }

    /// Returns the last transaction; 0 without one.
    #[inline]
    pub fn last_transaction(self) -> Time {
        Time(self.number(LAST_TRANSACTION))
    }

    /// Returns the start of the lease.
    #[inline]
    pub fn lease_start(self) -> Time {
        Time(self.number(LEASE_START))
    }

    /// Returns the lifetime.
    #[inline]
    pub fn lifetime(self) -> u32 {
        self.number(LIFETIME)
    }

    /// Returns the subnet id.
    #[inline]
    pub fn subnet(self) -> u32 {
        self.number(SUBNET)
    }

    /// Returns the octets of the state and the flags.
    #[inline]
    pub fn state_and_flags(self) -> [u8; 2] {
        [self.0[STATE], self.0[FLAGS]]
    }

    /// Returns the number at an offset.
    #[inline]
    fn number(self, offset: usize) -> u32 {
        let octets = self.0.get(offset..).and_then(<[u8]>::first_chunk);
        octets.map_or(0, |octets| u32::from_le_bytes(*octets))
    }
}

/// Returns the octets of a binding's client; none without a client.
pub fn client_octets<'a>(binding: BindingRef<'a>) -> &'a [u8] {
    binding.client.map(ClientRef::octets).unwrap_or_default()
}
