//! The states of an address (RFC 6926 section 6.2.7).

use serde::{Deserialize, Serialize};

/// The state of an address, by its value in the dhcp-state option (RFC 6926 section 6.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum State {
    /// Never leased, or recovered after probation.
    Available = 1,
    /// Assigned to a client whose lifetime is not over.
    Active = 2,
    /// The lease's lifetime ended.
    Expired = 3,
    /// The client released the lease, or gave it up by taking another.
    Released = 4,
    /// Declined by the client; on probation.
    Abandoned = 5,
    /// Removed by an administrator.
    Reset = 6,
    /// Free, but a high-availability partner's to give.
    Remote = 7,
    /// Offered and reserved, not yet acknowledged.
    Transitioning = 8,
}

impl State {
    /// Whether Kea holds a lease for an address in this state, be it on probation or only offered.
    pub fn is_leased(self) -> bool {
        matches!(
            self,
            State::Active | State::Abandoned | State::Transitioning
        )
    }

    /// The state of a value; `None` if it is none's.
    #[inline]
    pub fn from_value(value: u8) -> Option<State> {
        Some(match value {
            1 => State::Available,
            2 => State::Active,
            3 => State::Expired,
            4 => State::Released,
            5 => State::Abandoned,
            6 => State::Reset,
            7 => State::Remote,
            8 => State::Transitioning,
            _ => return None,
        })
    }
}
