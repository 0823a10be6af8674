//! The permission of active queries (RFC 7724 section 8.1).

use crate::model::time::Time;
use crate::query::Security;
use crate::query::request::Unanswerable;

/// Whether and how active queries are permitted, if they are enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// `active-query-insecure`: whether they are permitted without TLS.
    pub is_insecure: bool,
    /// `active-history`: the seconds that a catch-up may go back; `None` for all that are known.
    pub history: Option<u32>,
}

impl Permission {
    /// Checks a connection of this security.
    ///
    /// # Errors
    /// A connection that must not carry an active query, and must be closed.
    pub fn check(self, security: Security) -> Result<(), Unanswerable> {
        match security {
            Security::Plain if self.is_insecure => Ok(()),
            Security::Plain => Err(Unanswerable::Insecure(
                "without TLS, unless 'advanced.active-query-insecure' is true",
            )),
            Security::Tls {
                is_authenticated: true,
            } => Ok(()),
            // RFC 7724 section 8.1: TLS is mutually authenticated.
            Security::Tls {
                is_authenticated: false,
            } => Err(Unanswerable::Insecure(
                "without the requester's certificate",
            )),
        }
    }

    /// Returns the earliest time from which a catch-up that begins `now` may start.
    pub fn earliest(self, now: Time) -> Option<Time> {
        let history = self.history?;
        Some(Time(now.0.saturating_sub(history)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_a_certificate_or_permission_without_tls() {
        // RFC 7724 section 8.1.
        let tls = |is_authenticated| Security::Tls { is_authenticated };
        for (is_insecure, security, is_permitted) in [
            (false, Security::Plain, false),
            (false, tls(false), false),
            (false, tls(true), true),
            (true, Security::Plain, true),
            (true, tls(false), false),
            (true, tls(true), true),
        ] {
            let permission = Permission {
                is_insecure,
                history: None,
            };
            let result = permission.check(security);
            assert_eq!(result.is_ok(), is_permitted, "{is_insecure} {security:?}");
        }
    }

    #[test]
    fn limits_the_history() {
        let permission = |history| Permission {
            is_insecure: true,
            history,
        };
        let now = Time(1_000);
        assert_eq!(permission(None).earliest(now), None);
        assert_eq!(permission(Some(600)).earliest(now), Some(Time(400)));
        assert_eq!(permission(Some(u32::MAX)).earliest(now), Some(Time::MIN));
    }
}
