//! Which server of a high-availability relationship gives which free addresses, by the parameters
//! of Kea's `libdhcp_ha.so`.
//!
//! Kea's servers split their clients, not their addresses: each client belongs to a scope, which
//! has the name of a server, and at any time each server serves some of the scopes. A pool can
//! be bound to a scope by the client class `HA_<server>`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::kea_config::layout::HooksLibrary;

/// The file name of Kea's high-availability library.
const LIBRARY: &str = "libdhcp_ha.so";

/// What precedes a server's name in the client class of its scope.
const CLASS_PREFIX: &str = "HA_";

/// In a subnet's user-context: which relationship it belongs to, if there are several.
const RELATIONSHIP_KEY: &str = "ha-server-name";

/// The scopes that a free address can be given in; none without high availability.
pub type Givers = Arc<[Box<str>]>;

/// The scopes this server serves at a time.
pub type Serving = BTreeSet<String>;

/// Whether only other servers can give a free address of `givers` while this one is `serving`.
pub fn is_elsewhere(givers: &Givers, serving: &Serving) -> bool {
    !givers.is_empty() && !givers.iter().any(|giver| serving.contains(&**giver))
}

/// All relationships of this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HighAvailability {
    /// The relationships, of which most servers have none or one.
    relationships: Vec<Relationship>,
}

/// `high-availability`, the only parameter of the library.
#[derive(Deserialize)]
struct Parameters {
    /// The relationships.
    #[serde(rename = "high-availability")]
    relationships: Vec<Relationship>,
}

/// A relationship, as the library's parameters give it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Relationship {
    /// This server's name.
    this_server_name: String,
    /// `load-balancing`, `hot-standby` or `passive-backup`.
    mode: String,
    /// Its servers.
    #[serde(default)]
    peers: Vec<Peer>,
}

/// A server of a relationship.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Peer {
    /// Its name, and so that of its scope.
    name: Box<str>,
    /// `primary`, `secondary`, `standby` or `backup`.
    role: String,
}

impl Relationship {
    /// The server of this name.
    fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| *peer.name == *name)
    }

    /// The servers that give addresses while all is well.
    fn givers(&self) -> impl Iterator<Item = &Peer> {
        let balanced = self.mode == "load-balancing";
        self.peers
            .iter()
            .filter(move |peer| peer.role == "primary" || (balanced && peer.role == "secondary"))
    }
}

impl HighAvailability {
    /// The relationships in the parameters of the libraries loaded. What the library itself would
    /// refuse counts as none.
    pub fn new(libraries: &[HooksLibrary]) -> HighAvailability {
        let parameters = libraries
            .iter()
            .filter(|library| {
                Path::new(&library.library)
                    .file_name()
                    .is_some_and(|name| name == LIBRARY)
            })
            .filter_map(|library| Parameters::deserialize(library.parameters.as_ref()?).ok());
        HighAvailability {
            relationships: parameters.flat_map(|found| found.relationships).collect(),
        }
    }

    /// Whether this server has a partner.
    pub fn is_configured(&self) -> bool {
        !self.relationships.is_empty()
    }

    /// The scopes this server serves while all is well, if they are anyone's by then.
    pub fn usually_serving(&self) -> Serving {
        let names = self.relationships.iter();
        names
            .map(|relationship| relationship.this_server_name.clone())
            .collect()
    }

    /// Who gives the free addresses of a part of a subnet that is for clients of these `classes`: the
    /// server a class names, else all that give any. The user-contexts of the subnet and its shared
    /// network tell of which relationship.
    pub fn givers<'a>(
        &self,
        contexts: &[Option<&Value>],
        classes: impl IntoIterator<Item = &'a str>,
    ) -> Givers {
        let Some(relationship) = self.relationship(contexts) else {
            return Givers::default();
        };
        let named = classes.into_iter().find_map(|class| {
            let name = class.strip_prefix(CLASS_PREFIX)?;
            relationship.peer(name)
        });
        match named {
            Some(peer) => [peer.name.clone()].into(),
            None => relationship
                .givers()
                .map(|peer| peer.name.clone())
                .collect(),
        }
    }

    /// The relationship that the first of the user-contexts names that names any.
    fn relationship(&self, contexts: &[Option<&Value>]) -> Option<&Relationship> {
        if let [only] = &self.relationships[..] {
            return Some(only);
        }
        let contexts = contexts.iter().flatten();
        let name = contexts
            .filter_map(|context| context.get(RELATIONSHIP_KEY))
            .find_map(Value::as_str)?;
        self.relationships
            .iter()
            .find(|relationship| relationship.peer(name).is_some())
    }
}
