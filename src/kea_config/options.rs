//! The configured options that Kea sends.

use std::hash::{Hash, Hasher};

use crate::kea_config::configured::ConfiguredOption;

/// The options of one scope.
#[derive(Debug, Default, Hash)]
pub struct OptionSet {
    /// Options by code, ascending, and in Kea's order within one code.
    options: Vec<SetOption>,
}

/// An option in its scope.
#[derive(Debug)]
struct SetOption {
    /// The option's code.
    code: u8,
    /// The value on the wire.
    value: Box<[u8]>,
    /// Whether `never-send` is set.
    never_send: bool,
    /// Whether `always-send` is set.
    always_send: bool,
    /// The classes of the clients that receive the option; empty for all clients.
    client_classes: Box<[String]>,
}

impl Hash for SetOption {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // Values do not depend on `always_send`: a change of it changes no binding.
        self.code.hash(hasher);
        self.value.hash(hasher);
        self.never_send.hash(hasher);
        self.client_classes.hash(hasher);
    }
}

impl OptionSet {
    /// Adds an option.
    pub fn insert(&mut self, option: ConfiguredOption) {
        let place = self
            .options
            .partition_point(|before| before.code <= option.code);
        self.options.insert(
            place,
            SetOption {
                code: option.code,
                value: option.value.into(),
                never_send: option.never_send,
                always_send: option.always_send,
                client_classes: option.client_classes.into(),
            },
        );
    }

    /// Whether there is no option.
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// Returns the codes of the options, ascending.
    pub fn codes(&self) -> impl Iterator<Item = u8> {
        self.options.iter().map(|option| option.code)
    }

    /// Returns the codes of the options with `always-send`, ascending.
    pub fn always_sent(&self) -> impl Iterator<Item = u8> {
        let options = self.options.iter();
        options
            .filter(|option| option.always_send)
            .map(|option| option.code)
    }

    /// Returns the options with this code.
    fn with_code(&self, code: u8) -> &[SetOption] {
        let start = self.options.partition_point(|option| option.code < code);
        let end = self.options.partition_point(|option| option.code <= code);
        self.options.get(start..end).unwrap_or_default()
    }

    /// Whether `never-send` is set for the option in this scope, for any class.
    fn cancels(&self, code: u8) -> bool {
        self.with_code(code).iter().any(|option| option.never_send)
    }

    /// Returns the option's value for a client in these classes: a value for one of its classes precedes
    /// a value for all clients.
    fn value(&self, code: u8, classes: &[&str]) -> Option<&[u8]> {
        let candidates = self.with_code(code);
        let tagged = candidates.iter().find(|option| {
            option
                .client_classes
                .iter()
                .any(|class| classes.contains(&class.as_str()))
        });
        tagged
            .or_else(|| {
                let mut untagged = candidates.iter().rev();
                untagged.find(|option| option.client_classes.is_empty())
            })
            .map(|option| &*option.value)
    }
}

/// Returns the value of option `code` that Kea sends to a client in `classes` with these scopes,
/// the most specific first: the first scope with a value decides, and `never-send` in any scope
/// withholds the option.
pub fn sent<'a>(scopes: &[&'a OptionSet], code: u8, classes: &[&str]) -> Option<&'a [u8]> {
    if scopes.iter().any(|scope| scope.cancels(code)) {
        return None;
    }
    scopes.iter().find_map(|scope| scope.value(code, classes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kea_config::Scope;

    /// Option 15 for clients in these classes.
    fn option(value: &str, client_classes: &[&str]) -> ConfiguredOption {
        ConfiguredOption {
            scope: Scope::Global,
            code: 15,
            value: value.into(),
            never_send: false,
            always_send: false,
            client_classes: client_classes.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_value_for_the_clients_class_precedes_one_for_all_clients() {
        let mut set = OptionSet::default();
        set.insert(option("silver", &["silver"]));
        set.insert(option("gold", &["gold"]));
        set.insert(option("all", &[]));
        let value = |classes: &[&str]| sent(&[&set], 15, classes);
        assert_eq!(value(&["ALL", "gold"]), Some(&b"gold"[..]));
        assert_eq!(value(&["ALL"]), Some(&b"all"[..]));
    }

    #[test]
    fn an_option_for_classes_the_client_is_not_in_leaves_the_wider_scope_to_decide() {
        let mut subnet = OptionSet::default();
        subnet.insert(option("gold", &["gold"]));
        let mut global = OptionSet::default();
        global.insert(option("all", &[]));
        assert_eq!(sent(&[&subnet, &global], 15, &[]), Some(&b"all"[..]));
    }

    #[test]
    fn never_send_in_the_widest_scope_withholds_the_narrowest() {
        let mut subnet = OptionSet::default();
        subnet.insert(option("subnet", &[]));
        let mut global = OptionSet::default();
        global.insert(ConfiguredOption {
            never_send: true,
            always_send: false,
            ..option("", &[])
        });
        assert_eq!(sent(&[&subnet, &global], 15, &[]), None);
        assert_eq!(sent(&[&subnet], 15, &[]), Some(&b"subnet"[..]));
    }
}
