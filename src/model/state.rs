//! The states of an address (RFC 6926 section 6.2.7).

use serde::{Deserialize, Serialize};

/// The state of an address, numbered as in the dhcp-state option (RFC 6926 section 6.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum State {
    /// Never leased, recovered after probation, or offered and not accepted.
    Available = proto::State::AVAILABLE.0,
    /// Leased to a client; the lifetime has not ended.
    Active = proto::State::ACTIVE.0,
    /// The lease's lifetime ended.
    Expired = proto::State::EXPIRED.0,
    /// The client released the lease, or gave it up by accepting another.
    Released = proto::State::RELEASED.0,
    /// Declined by the client; on probation.
    Abandoned = proto::State::ABANDONED.0,
    /// Removed by an administrator.
    Reset = proto::State::RESET.0,
    /// Free, and assigned by a high-availability partner.
    Remote = proto::State::REMOTE.0,
    /// Offered and reserved, not yet acknowledged.
    Transitioning = proto::State::TRANSITIONING.0,
}

impl State {
    /// Whether an address in this state is free. Replies about it describe no client, even if its binding still has one.
    #[inline]
    pub fn is_free(self) -> bool {
        matches!(self, State::Available | State::Remote)
    }

    /// Whether Kea holds a lease for an address in this state. A declined or offered address has one too.
    pub fn is_leased(self) -> bool {
        matches!(
            self,
            State::Active | State::Abandoned | State::Transitioning
        )
    }

    /// Returns the state with a value; `None` for an unassigned value.
    #[inline]
    pub fn from_value(value: u8) -> Option<State> {
        Some(match proto::State(value) {
            proto::State::AVAILABLE => State::Available,
            proto::State::ACTIVE => State::Active,
            proto::State::EXPIRED => State::Expired,
            proto::State::RELEASED => State::Released,
            proto::State::ABANDONED => State::Abandoned,
            proto::State::RESET => State::Reset,
            proto::State::REMOTE => State::Remote,
            proto::State::TRANSITIONING => State::Transitioning,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_each_value_to_its_state() {
        let states: Vec<State> = (0..=u8::MAX).filter_map(State::from_value).collect();
        let values: Vec<u8> = states.iter().map(|state| *state as u8).collect();
        assert_eq!(values, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
