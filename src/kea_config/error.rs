//! Errors of Kea's configuration.

use std::fmt;

/// Errors of Kea's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeaConfigError {
    /// The layout does not match any version of Kea.
    Layout(String),
    /// A value is not allowed.
    Refused {
        /// The parameter, and the part of the configuration that holds it.
        parameter: String,
        /// The value.
        value: String,
        /// Allowed values.
        allowed: String,
    },
}

impl fmt::Display for KeaConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeaConfigError::Layout(cause) => {
                write!(f, "Kea's configuration cannot be understood: {cause}")
            }
            KeaConfigError::Refused {
                parameter,
                value,
                allowed,
            } => write!(f, "{parameter} is {value}; it must be {allowed}"),
        }
    }
}

impl std::error::Error for KeaConfigError {}
