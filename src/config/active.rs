//! The parameters of Active Leasequery (RFC 7724).

use std::num::NonZeroU32;
use std::time::Duration;

use proto::timing;
use serde_json::Value;

use crate::config::section::{ConfigError, MAX_CONNECTIONS, Section, refused};
use crate::config::tls::Tls;

/// The parameters of `advanced` about Active Leasequery.
pub(super) const PARAMETERS: [&str; 6] = [
    ENABLED,
    INSECURE,
    CONNECTIONS,
    "active-idle-timeout",
    "active-send-timeout",
    "active-history",
];
/// `active-query-enabled`: whether to serve it. Default: false (RFC 7724 section 8.1).
const ENABLED: &str = "active-query-enabled";
/// `active-query-insecure`: whether to serve it also without TLS. Default: false (RFC 7724 section 8.1).
const INSECURE: &str = "active-query-insecure";
/// `max-active-connections`: the limit of active connections. From 1 to [`MAX_CONNECTIONS`].
const CONNECTIONS: &str = "max-active-connections";

/// Default of `max-active-connections`.
pub const DEFAULT_ACTIVE_CONNECTIONS: u32 = 10;

/// Parameters of Active Leasequery, where it is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// Whether requesters may use it without TLS.
    pub is_insecure: bool,
    /// Maximum of active connections of all requesters together, beside
    /// [`Config::max_connections`](crate::config::Config::max_connections); >= 1.
    pub max_connections: u32,
    /// ACTIVE_LQ_IDLE_TIMEOUT (RFC 7724 section 5.3): time without a message after which the server sends one;
    /// >= 1 s.
    pub idle_timeout: Duration,
    /// ACTIVE_LQ_SEND_TIMEOUT (RFC 7724 section 5.3): time that a connection may be blocked while the server sends;
    /// >= 1 s.
    pub send_timeout: Duration,
    /// Seconds that a catch-up may go back; `None`: as far as changes are known.
    pub history: Option<NonZeroU32>,
}

impl Active {
    /// Reads the parameters; `None` if Active Leasequery is not enabled.
    ///
    /// # Errors
    /// A wrong type, a value out of range, or a value that contradicts others.
    pub(super) fn read(
        advanced: &Section,
        is_bulk_enabled: bool,
        tls: Option<&Tls>,
    ) -> Result<Option<Active>, ConfigError> {
        let seconds = |name, default: Duration| {
            let seconds = advanced.integer(name, 1..=u32::MAX)?;
            Ok(seconds.map_or(default, |seconds| Duration::from_secs(seconds.into())))
        };
        let active = Active {
            is_insecure: advanced.boolean(INSECURE)?.unwrap_or(false),
            max_connections: advanced
                .integer(CONNECTIONS, 1..=MAX_CONNECTIONS)?
                .unwrap_or(DEFAULT_ACTIVE_CONNECTIONS),
            idle_timeout: seconds("active-idle-timeout", timing::ACTIVE_LQ_IDLE_TIMEOUT)?,
            send_timeout: seconds("active-send-timeout", timing::ACTIVE_LQ_SEND_TIMEOUT)?,
            history: advanced
                .integer("active-history", 0..=u32::MAX)?
                .and_then(NonZeroU32::new),
        };
        let is_enabled = advanced.boolean(ENABLED)?.unwrap_or(false);
        let refused = |name, allowed| {
            let parameter = advanced.parameter(name);
            Err(refused(&parameter, &Value::Bool(true), allowed))
        };
        if active.is_insecure && tls.is_some_and(|tls| tls.is_required) {
            return refused(INSECURE, "false, because 'advanced.tls' is \"required\"");
        }
        if !is_enabled {
            return Ok(None);
        }
        // RFC 7724 section 8.
        if !is_bulk_enabled {
            return refused(
                ENABLED,
                "false, because 'advanced.bulk-query-enabled' is: a server of Active Leasequery serves Bulk \
                 Leasequery too (RFC 7724 section 8)",
            );
        }
        // RFC 7724 section 8.1: without TLS only by a step of its own.
        if tls.is_none() && !active.is_insecure && advanced.has("trust-anchor") {
            return refused(
                ENABLED,
                "false, unless 'advanced.tls' is \"allowed\" or \"required\", or 'advanced.active-query-insecure' is true",
            );
        }
        if tls.is_none() && !active.is_insecure {
            return refused(
                ENABLED,
                "false, unless TLS is configured ('advanced.trust-anchor', 'cert-file' and 'key-file'), or \
                 'advanced.active-query-insecure' is true",
            );
        }
        Ok(Some(active))
    }

    /// Returns warnings about time-outs that are shorter than RFC 7724 section 5.3 recommends.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let timeouts = [
            (
                "active-idle-timeout",
                self.idle_timeout,
                timing::ACTIVE_LQ_IDLE_TIMEOUT,
            ),
            (
                "active-send-timeout",
                self.send_timeout,
                timing::ACTIVE_LQ_SEND_TIMEOUT,
            ),
        ];
        let short = timeouts
            .into_iter()
            .filter(|(_, value, least)| value < least);
        short.map(|(name, value, least)| {
            format!(
                "parameter 'advanced.{name}' is {}: less than {} seconds is not recommended (RFC 7724 section 5.3)",
                value.as_secs(),
                least.as_secs()
            )
        })
    }
}
