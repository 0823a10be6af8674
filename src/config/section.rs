//! Reading a JSON map of parameters: types, ranges, and errors that name the allowed values.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// Maximum number of characters of a refused value in an error.
const SHOWN_VALUE: usize = 80;

/// Maximum of limits of connections: more than the files that a process may have open.
pub const MAX_CONNECTIONS: u32 = 65_535;

/// Error of a configuration. The message names the parameter, its value, and the allowed values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub(super) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Returns the error for a required parameter that is missing.
pub fn missing(parameter: &str, allowed: &str) -> ConfigError {
    ConfigError(format!(
        "parameter '{parameter}' is missing; it must be {allowed}"
    ))
}

/// Returns the error for a value that is not `allowed`: it has the wrong type, is out of range, or
/// contradicts another one.
pub fn refused(parameter: &str, value: &Value, allowed: impl Display) -> ConfigError {
    let value = shown(value);
    ConfigError(format!(
        "parameter '{parameter}' is {value}; it must be {allowed}"
    ))
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
            Some((name, value)) => Err(ConfigError(format!(
                "unknown parameter '{}' (with value {}); allowed are {}",
                section.parameter(name),
                shown(value),
                known.join(", ")
            ))),
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

    /// Whether the parameter is given.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Returns the value of a boolean parameter.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// Returns the value of an integer parameter, which must be in `range`.
    pub fn integer<T: TryFrom<u64> + PartialOrd + Display>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, ConfigError> {
        let allowed = format!("an integer from {} to {}", range.start(), range.end());
        self.typed(name, &allowed, |value| {
            let number = T::try_from(value.as_u64()?).ok()?;
            range.contains(&number).then_some(number)
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
            let list = value.as_array().filter(|list| !list.is_empty())?;
            Some(list.as_slice())
        })
    }

    /// Returns the value of a parameter, converted by `read`; refuses it if `read` returns `None`.
    pub fn typed<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.map.get(name) else {
            return Ok(None);
        };
        let refused = || refused(&self.parameter(name), value, allowed);
        read(value).map(Some).ok_or_else(refused)
    }
}
