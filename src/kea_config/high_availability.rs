//! The servers of a high-availability relationship that can lease a free address, from the
//! parameters of Kea's `libdhcp_ha.so`.
//!
//! Kea's servers divide clients, not addresses, among themselves: each client belongs to a scope,
//! which has the name of a server, and at any time each server serves some of the scopes. A client
//! class `HA_<server>` restricts a pool to a scope.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::kea_config::layout::HooksLibrary;

/// The file name of Kea's high-availability library.
const LIBRARY: &str = "libdhcp_ha.so";

/// Prefix of a server's name in the client class of its scope.
const CLASS_PREFIX: &str = "HA_";

/// Key in a subnet's user-context that names its relationship, if there are several.
const RELATIONSHIP_KEY: &str = "ha-server-name";

/// The names of the scopes in which a free address can be leased; empty without high availability.
pub type Allocators = Arc<[Box<str>]>;

/// The names of the scopes that this server serves at a time.
pub type Serving = BTreeSet<String>;

/// Whether only other servers can lease a free address of `allocators` while this one is `serving`.
pub fn only_others_allocate(allocators: &Allocators, serving: &Serving) -> bool {
    !allocators.is_empty()
        && !allocators
            .iter()
            .any(|allocator| serving.contains(&**allocator))
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

/// A relationship, in the layout of the library's parameters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Relationship {
    /// The name of this server.
    this_server_name: String,
    /// The mode: `load-balancing`, `hot-standby` or `passive-backup`.
    mode: String,
    /// The servers.
    #[serde(default)]
    peers: Vec<Peer>,
}

/// A server of a relationship.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Peer {
    /// The name of the server and of its scope.
    name: Box<str>,
    /// The role: `primary`, `secondary`, `standby` or `backup`.
    role: String,
}

impl Relationship {
    /// Returns the server with this name.
    fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| *peer.name == *name)
    }
}

impl HighAvailability {
    /// Reads the relationships from the parameters of the loaded libraries. Parameters that the
    /// library itself refuses count as none.
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

    /// Returns the scopes that this server serves in normal operation; empty without high availability.
    pub fn usually_serving(&self) -> Serving {
        let names = self.relationships.iter();
        names
            .map(|relationship| relationship.this_server_name.clone())
            .collect()
    }

    /// Returns the servers that lease the free addresses of a part of a subnet to clients of these
    /// `classes`: the server that a class names, otherwise all that lease addresses. The
    /// user-contexts of the subnet and its shared network name the relationship.
    pub fn allocators<'a>(
        &self,
        contexts: &[Option<&Value>],
        classes: impl IntoIterator<Item = &'a str>,
    ) -> Allocators {
        let Some(relationship) = self.relationship(contexts) else {
            return Allocators::default();
        };
        let named = classes.into_iter().find_map(|class| {
            let name = class.strip_prefix(CLASS_PREFIX)?;
            relationship.peer(name)
        });
        let is_balanced = relationship.mode == "load-balancing";
        let allocates =
            |peer: &&Peer| peer.role == "primary" || is_balanced && peer.role == "secondary";
        let peers = relationship.peers.iter();
        match named {
            Some(peer) => [peer.name.clone()].into(),
            None => peers
                .filter(allocates)
                .map(|peer| peer.name.clone())
                .collect(),
        }
    }

    /// Returns the relationship named by the first user-context that names one.
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
