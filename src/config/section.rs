//! Reading a JSON map of parameters: types, ranges, and errors that name the allowed values.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// Maximum number of characters of a refused value in an error.
const SHOWN_VALUE: usize = 80;

/// Errors of a configuration. The message names the parameter, its value, and the allowed
/// values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The parameters are not a JSON map.
    NotMap(String),
    /// A required parameter is missing.
    Missing {
        /// The parameter with the enclosing maps: `requesters[1].address`.
        parameter: String,
        /// Allowed values.
        allowed: String,
    },
    /// The parameter does not exist.
    Unknown {
        /// The name with the enclosing maps.
        parameter: String,
        /// The value given, as JSON.
        value: String,
        /// The known names.
        allowed: String,
    },
    /// The value has the wrong type, is out of range, or contradicts another one.
    Refused {
        /// The parameter with the enclosing maps.
        parameter: String,
        /// The value refused, as JSON.
        value: String,
        /// Allowed values.
        allowed: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::NotMap(cause) => {
                write!(f, "the parameters must be a JSON map: {cause}")
            }
            ConfigError::Missing { parameter, allowed } => {
                write!(
                    f,
                    "parameter '{parameter}' is missing; it must be {allowed}"
                )
            }
            ConfigError::Unknown {
                parameter,
                value,
                allowed,
            } => write!(
                f,
                "unknown parameter '{parameter}' (with value {value}); allowed are {allowed}"
            ),
            ConfigError::Refused {
                parameter,
                value,
                allowed,
            } => write!(
                f,
                "parameter '{parameter}' is {value}; it must be {allowed}"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Returns the error for a value that is not `allowed`.
pub fn refused(parameter: &str, value: &Value, allowed: impl Into<String>) -> ConfigError {
    ConfigError::Refused {
        parameter: parameter.to_owned(),
        value: shown(value),
        allowed: allowed.into(),
    }
}

/// Returns a value for an error: JSON, truncated if long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_VALUE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A map of parameters whose names are all known.
pub struct Section<'a> {
    /// Path of the map: empty at the top level, otherwise the name of its parameter.
    path: String,
    /// The parameters given.
    map: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    /// Returns the map at `path`, which may have the parameters in `known`.
    ///
    /// # Errors
    /// If there is a parameter with another name.
    pub fn new(
        path: &str,
        map: &'a Map<String, Value>,
        known: &[&str],
    ) -> Result<Section<'a>, ConfigError> {
        let section = Section {
            path: path.to_owned(),
            map,
        };
        match map.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, value)) => Err(ConfigError::Unknown {
                parameter: section.parameter(name),
                value: shown(value),
                allowed: known.join(", "),
            }),
            None => Ok(section),
        }
    }

    /// Returns the full name of a parameter in the map.
    pub fn parameter(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Returns the value of a parameter, of any type.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    /// Whether the parameter is given.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Returns the value of a boolean parameter.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// Returns the value of an integer parameter, which must be in `range`.
    pub fn integer(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ConfigError> {
        let allowed = format!("an integer from {} to {}", range.start(), range.end());
        self.typed(name, &allowed, |value| {
            value
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .filter(|number| range.contains(number))
        })
    }

    /// Returns the value of a string parameter.
    pub fn string(&self, name: &str) -> Result<Option<&'a str>, ConfigError> {
        self.typed(name, "a string", Value::as_str)
    }

    /// Returns the value of a map parameter.
    pub fn map(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ConfigError> {
        self.typed(name, "a map", Value::as_object)
    }

    /// Returns the value of a list parameter, which must not be empty; `allowed` describes its
    /// elements.
    pub fn list(&self, name: &str, allowed: &str) -> Result<Option<&'a [Value]>, ConfigError> {
        self.typed(name, allowed, |value| {
            value
                .as_array()
                .map(Vec::as_slice)
                .filter(|list| !list.is_empty())
        })
    }

    /// Returns the value of a parameter, converted by `read`; refuses it if `read` returns `None`.
    fn typed<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.map.get(name) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(refused(&self.parameter(name), value, allowed)),
            },
        }
    }
}
