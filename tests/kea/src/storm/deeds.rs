//! What the administrator and fate do to the server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::history::{Identity, Touch, What, now};
use super::look::Row;
use super::plan::Deed;
use super::random::pick;
use super::world::{COMMANDED_SUBNET, Variant, World};
use crate::{Kea, eventually};

/// What Kea logs when it has taken over a configuration.
const CONFIGURED: &str = "DHCP4_CONFIG_COMPLETE";

/// What deeds did.
#[derive(Debug, Default)]
pub struct Effects {
    /// To addresses.
    pub touches: Vec<Touch>,
    /// By commands, to all that fits: leases of a client or of a subnet removed.
    pub removals: Vec<Removal>,
    /// How often Kea was reconfigured or started.
    pub reconfigurations: usize,
    /// When it was killed.
    pub killed: Option<f64>,
    /// The configuration it may have used last.
    pub variants: Vec<Variant>,
    /// What was done, for people.
    pub log: Vec<String>,
}

/// Leases removed that a command did not name by their address.
#[derive(Debug)]
pub struct Removal {
    /// The command.
    pub command: &'static str,
    /// From which subnet.
    pub subnet: u32,
    /// Of which client; all of them if none.
    pub identity: Option<Identity>,
    /// When.
    pub at: f64,
}

/// Does deeds.
#[derive(Debug)]
pub struct Doer<'a> {
    /// The network.
    pub world: &'a World,
    /// Kea's leases as they were last looked at.
    pub rows: &'a BTreeMap<Ipv4Addr, Row>,
    /// How many clients there are.
    pub clients: usize,
}

impl Doer<'_> {
    /// Does one deed.
    pub fn act(&self, kea: &mut Kea, deed: Deed, effects: &mut Effects) {
        effects.log.push(format!("{deed:?}"));
        match deed {
            Deed::LeaseAdd(salt) => self.put_lease(kea, "lease4-add", salt, effects),
            Deed::LeaseUpdate(salt) => self.put_lease(kea, "lease4-update", salt, effects),
            Deed::LeaseDelete(salt) => self.delete_lease(kea, salt, effects),
            Deed::LeaseDeleteByMac(salt) | Deed::LeaseDeleteByClientId(salt) => {
                let by_mac = matches!(deed, Deed::LeaseDeleteByMac(_));
                self.delete_leases_of(kea, salt, by_mac, effects);
            }
            Deed::Wipe(salt) => {
                let subnet = 1 + salt % 6;
                let answer = kea.command("lease4-wipe", json!({ "subnet-id": subnet }));
                effects.removed("lease4-wipe", subnet, None, &answer);
            }
            Deed::Reload(variant) => {
                kea.rewrite(|setup| self.world.configure(setup, variant));
                reload(kea, effects, Some(variant));
            }
            Deed::ReloadSame => reload(kea, effects, None),
            Deed::ConfigSet(variant) => {
                let answer = kea.config_set(|setup| self.world.configure(setup, variant));
                assert_eq!(answer["result"], 0, "config-set: {answer}");
                effects.reconfigured(Some(variant));
            }
            Deed::HangUp(variant) => {
                kea.rewrite(|setup| self.world.configure(setup, variant));
                let before = kea.log().matches(CONFIGURED).count();
                kea.hang_up();
                eventually("the end of a reconfiguration", || {
                    kea.log().matches(CONFIGURED).count() > before
                });
                effects.reconfigured(Some(variant));
            }
            Deed::Refused(salt) => refuse(kea, salt, effects),
            Deed::Restart => {
                kea.restart();
                effects.reconfigured(None);
            }
            Deed::Kill => {
                effects.killed = Some(now());
                kea.kill();
                kea.start_again();
                effects.reconfigured(None);
            }
            Deed::Wait(seconds) => sleep(Duration::from_secs(seconds as u64)),
            _ if self.world.has_network_commands => self.change_network(kea, deed, effects),
            _ => {}
        }
    }

    /// Changes subnets or reservations by command; some of that fails, for there is none to
    /// remove, or one already.
    fn change_network(&self, kea: &Kea, deed: Deed, effects: &mut Effects) {
        let id = COMMANDED_SUBNET;
        let mac = |salt| format!("02:00:00:00:00:{:02x}", pick(salt, self.clients.min(250)));
        let reservation = |salt: u32| {
            let (address, subnet) = self.world.some_address(salt & 0xff00);
            json!({ "subnet-id": subnet, "hw-address": mac(salt), "ip-address": address.to_string() })
        };
        let (command, arguments) = match deed {
            Deed::SubnetDelete => ("subnet4-del", json!({ "id": id })),
            Deed::SubnetAdd => {
                let subnet = self.world.commanded_subnet(9);
                ("subnet4-add", json!({ "subnet4": [subnet] }))
            }
            Deed::SubnetUpdate(salt) => {
                let subnet = self.world.commanded_subnet(4 + (salt % 12) as u8);
                ("subnet4-update", json!({ "subnet4": [subnet] }))
            }
            Deed::ReservationAdd(salt) => {
                let arguments = json!({ "reservation": reservation(salt),
                    "operation-target": "memory" });
                ("reservation-add", arguments)
            }
            Deed::ReservationDelete(salt) => {
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

    /// Puts a lease into Kea's database.
    fn put_lease(&self, kea: &Kea, command: &'static str, salt: u32, effects: &mut Effects) {
        let held: Vec<_> = self.rows.iter().collect();
        let (address, subnet) = match command {
            "lease4-update" if !held.is_empty() && salt & 3 != 0 => {
                let (address, row) = held[pick(salt, held.len())];
                (*address, row.subnet)
            }
            _ => self.world.some_address(salt),
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
            effects.touch(address, What::Put(identity), command);
        }
    }

    /// Removes the lease of an address.
    fn delete_lease(&self, kea: &Kea, salt: u32, effects: &mut Effects) {
        let all: Vec<_> = self.rows.keys().collect();
        if all.is_empty() {
            return;
        }
        let address = *all[pick(salt, all.len())];
        let answer = kea.command("lease4-del", json!({ "ip-address": address.to_string() }));
        if answer["result"] == 0 {
            effects.touch(address, What::Deleted("lease4-del"), "lease4-del");
        }
    }

    /// Removes a client's leases.
    fn delete_leases_of(&self, kea: &Kea, salt: u32, by_mac: bool, effects: &mut Effects) {
        let has = |row: &Row| match by_mac {
            true => !row.identity.mac.is_empty(),
            false => !row.identity.client_id.is_empty(),
        };
        let all: Vec<_> = self.rows.values().filter(|row| has(row)).collect();
        if all.is_empty() {
            return;
        }
        let row = all[pick(salt, all.len())];
        let none = Vec::new();
        let (kind, value, identity) = match by_mac {
            true => (
                "hw-address",
                &row.identity.mac,
                (row.identity.mac.clone(), none),
            ),
            false => (
                "client-id",
                &row.identity.client_id,
                (none, row.identity.client_id.clone()),
            ),
        };
        let (mac, client_id) = identity;
        let answer = kea.command(
            "lease4-del",
            json!({ "identifier-type": kind, "identifier": colons(value), "subnet-id": row.subnet }),
        );
        let identity = Identity { mac, client_id };
        effects.removed("lease4-del by client", row.subnet, Some(identity), &answer);
    }
}

impl Effects {
    /// Notes what was done to an address.
    fn touch(&mut self, address: Ipv4Addr, what: What, step: &str) {
        self.touches.push(Touch {
            address,
            at: now(),
            what,
            step: step.to_owned(),
        });
    }

    /// Notes leases that a command has removed.
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

    /// Notes that Kea was reconfigured, or started.
    fn reconfigured(&mut self, variant: Option<Variant>) {
        self.reconfigurations += 1;
        self.variants.extend(variant);
    }
}

/// Has Kea load the configuration file.
fn reload(kea: &Kea, effects: &mut Effects, variant: Option<Variant>) {
    let answer = kea.command("config-reload", Value::Null);
    assert_eq!(answer["result"], 0, "config-reload: {answer}");
    effects.reconfigured(variant);
}

/// Has the hook or Kea refuse a configuration. Kea may be deaf then, until the next good one.
fn refuse(kea: &Kea, salt: u32, effects: &mut Effects) {
    let answer = match salt % 3 {
        0 => kea.config_set(|setup| setup.hook_parameters(json!({ "requesters": "all" }))),
        1 => kea.config_set(|setup| setup.subnets(json!([{ "id": 1, "subnet": "nonsense" }]))),
        _ => kea.config_set(|setup| setup.set("no-such-parameter", json!(1))),
    };
    assert_eq!(answer["result"], 1, "a wrong configuration: {answer}");
    reload(kea, effects, None);
}

/// Octets in hexadecimal with colons.
fn colons(octets: &[u8]) -> String {
    let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}
