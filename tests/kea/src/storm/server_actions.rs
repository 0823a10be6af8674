//! Actions of an administrator and faults, performed on the server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::history::{Identity, Touch, TouchKind, now};
use super::observation::KeaLease;
use super::plan::ServerAction;
use super::random::pick;
use super::topology::{COMMANDED_SUBNET, Topology, Variant};
use crate::{Kea, eventually};

/// The message Kea logs when a configuration is in effect.
const CONFIGURED: &str = "DHCP4_CONFIG_COMPLETE";

/// The effects of actions.
#[derive(Debug, Default)]
pub struct Effects {
    /// Effects on single addresses.
    pub touches: Vec<Touch>,
    /// Removals by client or by subnet.
    pub removals: Vec<Removal>,
    /// Number of reconfigurations and starts.
    pub reconfigurations: usize,
    /// When Kea was killed.
    pub killed: Option<f64>,
    /// The configuration variants that may have been in effect.
    pub variants: Vec<Variant>,
    /// The actions, for reports.
    pub log: Vec<String>,
}

/// A removal of leases by a command that does not name their addresses.
#[derive(Debug)]
pub struct Removal {
    /// The command.
    pub command: &'static str,
    /// The subnet.
    pub subnet: u32,
    /// The client; `None` for all clients.
    pub identity: Option<Identity>,
    /// The time of the command, in seconds since 1970.
    pub at: f64,
}

/// Performs actions on the server.
#[derive(Debug)]
pub struct Administrator<'a> {
    /// The subnets and relays.
    pub topology: &'a Topology,
    /// Kea's leases at the last observation.
    pub leases: &'a BTreeMap<Ipv4Addr, KeaLease>,
    /// Number of clients.
    pub clients: usize,
}

impl Administrator<'_> {
    /// Performs one action.
    pub fn perform(&self, kea: &mut Kea, action: ServerAction, effects: &mut Effects) {
        effects.log.push(format!("{action:?}"));
        match action {
            ServerAction::LeaseAdd(salt) => self.put_lease(kea, "lease4-add", salt, effects),
            ServerAction::LeaseUpdate(salt) => self.put_lease(kea, "lease4-update", salt, effects),
            ServerAction::LeaseDelete(salt) => self.delete_lease(kea, salt, effects),
            ServerAction::LeaseDeleteByMac(salt) | ServerAction::LeaseDeleteByClientId(salt) => {
                let by_mac = matches!(action, ServerAction::LeaseDeleteByMac(_));
                self.delete_leases_of(kea, salt, by_mac, effects);
            }
            ServerAction::Wipe(salt) => {
                let subnet = 1 + salt % 6;
                let answer = kea.command("lease4-wipe", json!({ "subnet-id": subnet }));
                effects.removed("lease4-wipe", subnet, None, &answer);
            }
            ServerAction::Reload(variant) => {
                kea.rewrite(|setup| self.topology.configure(setup, variant));
                reload(kea, effects, Some(variant));
            }
            ServerAction::ReloadSame => reload(kea, effects, None),
            ServerAction::ConfigSet(variant) => {
                let answer = kea.config_set(|setup| self.topology.configure(setup, variant));
                assert_eq!(answer["result"], 0, "config-set: {answer}");
                effects.reconfigured(Some(variant));
            }
            ServerAction::HangUp(variant) => {
                kea.rewrite(|setup| self.topology.configure(setup, variant));
                let before = kea.log().matches(CONFIGURED).count();
                kea.hang_up();
                eventually("the end of a reconfiguration", || {
                    kea.log().matches(CONFIGURED).count() > before
                });
                effects.reconfigured(Some(variant));
            }
            ServerAction::Refused(salt) => refuse(kea, salt, effects),
            ServerAction::Restart => {
                kea.restart();
                effects.reconfigured(None);
            }
            ServerAction::Kill => {
                effects.killed = Some(now());
                kea.kill();
                kea.start_again();
                effects.reconfigured(None);
            }
            ServerAction::Wait(seconds) => sleep(Duration::from_secs(seconds as u64)),
            _ if self.topology.has_network_commands => self.change_network(kea, action, effects),
            _ => {}
        }
    }

    /// Changes subnets or reservations by command. Some commands fail because the object does not
    /// exist, or exists already.
    fn change_network(&self, kea: &Kea, action: ServerAction, effects: &mut Effects) {
        let id = COMMANDED_SUBNET;
        let mac = |salt| format!("02:00:00:00:00:{:02x}", pick(salt, self.clients.min(250)));
        let reservation = |salt: u32| {
            let (address, subnet) = self.topology.some_address(salt & 0xff00);
            json!({ "subnet-id": subnet, "hw-address": mac(salt), "ip-address": address.to_string() })
        };
        let (command, arguments) = match action {
            ServerAction::SubnetDelete => ("subnet4-del", json!({ "id": id })),
            ServerAction::SubnetAdd => {
                let subnet = self.topology.commanded_subnet(9);
                ("subnet4-add", json!({ "subnet4": [subnet] }))
            }
            ServerAction::SubnetUpdate(salt) => {
                let subnet = self.topology.commanded_subnet(4 + (salt % 12) as u8);
                ("subnet4-update", json!({ "subnet4": [subnet] }))
            }
            ServerAction::ReservationAdd(salt) => {
                let arguments = json!({ "reservation": reservation(salt),
                    "operation-target": "memory" });
                ("reservation-add", arguments)
            }
            ServerAction::ReservationDelete(salt) => {
                let mut arguments = reservation(salt);
                arguments["operation-target"] = json!("memory");
                let object = arguments.as_object_mut().expect("a map");
                object.remove("hw-address");
                ("reservation-del", arguments)
            }
            _ => return,
        };
        let answer = kea.command(command, arguments);
        effects.log.push(format!("{command}: {}", answer["text"]));
        effects.reconfigurations += 1;
    }

    /// Writes a lease into Kea's database.
    fn put_lease(&self, kea: &Kea, command: &'static str, salt: u32, effects: &mut Effects) {
        let held: Vec<_> = self.leases.iter().collect();
        let (address, subnet) = match command {
            "lease4-update" if !held.is_empty() && salt & 3 != 0 => {
                let (address, lease) = held[pick(salt, held.len())];
                (*address, lease.subnet)
            }
            _ => self.topology.some_address(salt),
        };
        let [_, a, b, c] = salt.to_be_bytes();
        let mut identity = Identity {
            mac: vec![2, 0, 0, 0, 0, b],
            client_id: Vec::new(),
        };
        if salt & 4 != 0 {
            identity.client_id = vec![0xcc, a, c];
        }
        let valid = match salt >> 4 & 7 {
            0 => u32::MAX,
            1 | 2 => 5,
            _ => 300,
        };
        let mut lease = json!({ "ip-address": address.to_string(), "subnet-id": subnet,
            "hw-address": colons(&identity.mac), "valid-lft": valid });
        if !identity.client_id.is_empty() {
            lease["client-id"] = colons(&identity.client_id).into();
        }
        if command == "lease4-update" {
            lease["force-create"] = json!(salt & 8 != 0);
        }
        let answer = kea.command(command, lease);
        if answer["result"] == 0 {
            effects.touch(address, TouchKind::Put(identity), command);
        }
    }

    /// Removes the lease of an address.
    fn delete_lease(&self, kea: &Kea, salt: u32, effects: &mut Effects) {
        let all: Vec<_> = self.leases.keys().collect();
        if all.is_empty() {
            return;
        }
        let address = *all[pick(salt, all.len())];
        let answer = kea.command("lease4-del", json!({ "ip-address": address.to_string() }));
        if answer["result"] == 0 {
            effects.touch(address, TouchKind::Deleted("lease4-del"), "lease4-del");
        }
    }

    /// Removes the leases of a client.
    fn delete_leases_of(&self, kea: &Kea, salt: u32, by_mac: bool, effects: &mut Effects) {
        let has = |lease: &KeaLease| match by_mac {
            true => !lease.identity.mac.is_empty(),
            false => !lease.identity.client_id.is_empty(),
        };
        let all: Vec<_> = self.leases.values().filter(|lease| has(lease)).collect();
        if all.is_empty() {
            return;
        }
        let lease = all[pick(salt, all.len())];
        let none = Vec::new();
        let (kind, value, identity) = match by_mac {
            true => (
                "hw-address",
                &lease.identity.mac,
                (lease.identity.mac.clone(), none),
            ),
            false => (
                "client-id",
                &lease.identity.client_id,
                (none, lease.identity.client_id.clone()),
            ),
        };
        let (mac, client_id) = identity;
        let answer = kea.command(
            "lease4-del",
            json!({ "identifier-type": kind, "identifier": colons(value), "subnet-id": lease.subnet }),
        );
        let identity = Identity { mac, client_id };
        effects.removed(
            "lease4-del by client",
            lease.subnet,
            Some(identity),
            &answer,
        );
    }
}

impl Effects {
    /// Records an effect on an address.
    fn touch(&mut self, address: Ipv4Addr, kind: TouchKind, step: &str) {
        self.touches.push(Touch {
            address,
            at: now(),
            kind,
            step: step.to_owned(),
        });
    }

    /// Records a removal by command.
    fn removed(
        &mut self,
        command: &'static str,
        subnet: u32,
        identity: Option<Identity>,
        answer: &Value,
    ) {
        if answer["result"] == 0 {
            self.removals.push(Removal {
                command,
                subnet,
                identity,
                at: now(),
            });
        }
    }

    /// Records a reconfiguration or a start.
    fn reconfigured(&mut self, variant: Option<Variant>) {
        self.reconfigurations += 1;
        self.variants.extend(variant);
    }
}

/// Makes Kea load its configuration file.
fn reload(kea: &Kea, effects: &mut Effects, variant: Option<Variant>) {
    let answer = kea.command("config-reload", Value::Null);
    assert_eq!(answer["result"], 0, "config-reload: {answer}");
    effects.reconfigured(variant);
}

/// Sends a configuration that the hook or Kea refuses. Kea may ignore DHCP messages from then on,
/// until it gets a valid configuration.
fn refuse(kea: &Kea, salt: u32, effects: &mut Effects) {
    let answer = match salt % 3 {
        0 => kea.config_set(|setup| setup.hook_parameters(json!({ "requesters": "all" }))),
        1 => kea.config_set(|setup| setup.subnets(json!([{ "id": 1, "subnet": "nonsense" }]))),
        _ => kea.config_set(|setup| setup.set("no-such-parameter", json!(1))),
    };
    assert_eq!(answer["result"], 1, "a wrong configuration: {answer}");
    reload(kea, effects, None);
}

/// Returns octets in hexadecimal with colons.
fn colons(octets: &[u8]) -> String {
    let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}
