//! States of an address (RFC 6926 section 6.2.7).

use std::fmt;

/// The value of the dhcp-state option, any octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State(pub u8);

impl State {
    /// Available to the server that answers.
    pub const AVAILABLE: State = State(1);
    /// Assigned to a client.
    pub const ACTIVE: State = State(2);
    /// The lease has expired.
    pub const EXPIRED: State = State(3);
    /// The client released the lease.
    pub const RELEASED: State = State(4);
    /// A server or a client flagged the address as unusable.
    pub const ABANDONED: State = State(5);
    /// An external agent freed the lease.
    pub const RESET: State = State(6);
    /// Available to another server.
    pub const REMOTE: State = State(7);
    /// Between two states.
    pub const TRANSITIONING: State = State(8);

    /// Returns the registry's name of the state, if the state is assigned.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            State::AVAILABLE => "AVAILABLE",
            State::ACTIVE => "ACTIVE",
            State::EXPIRED => "EXPIRED",
            State::RELEASED => "RELEASED",
            State::ABANDONED => "ABANDONED",
            State::RESET => "RESET",
            State::REMOTE => "REMOTE",
            State::TRANSITIONING => "TRANSITIONING",
            _ => return None,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "STATE-{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6926 section 10: the registry's first eight values; new ones are shown, not refused.
    #[test]
    fn names_states_as_the_registry_does() {
        let names: Vec<String> = (0..=9).map(|value| State(value).to_string()).collect();
        let registry = [
            "STATE-0",
            "AVAILABLE",
            "ACTIVE",
            "EXPIRED",
            "RELEASED",
            "ABANDONED",
            "RESET",
            "REMOTE",
            "TRANSITIONING",
            "STATE-9",
        ];
        assert_eq!(names, registry);
    }
}
