//! The parts of Kea's configuration that affect leases, in the layout of `config-get`.
//!
//! Kea omits parameters that are not set, and each release adds some. All fields but the
//! identifying ones therefore have defaults, and unknown fields are skipped.

use serde::Deserialize;
use serde_json::Value;

/// The outermost map.
#[derive(Deserialize)]
pub struct Root {
    /// The DHCPv4 server's configuration.
    #[serde(rename = "Dhcp4")]
    pub dhcp4: Dhcp4,
}

/// `Dhcp4`: the global scope.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dhcp4 {
    /// Parameters that subnets inherit.
    #[serde(flatten)]
    pub inherited: Inherited,
    /// The loaded hooks.
    #[serde(default)]
    pub hooks_libraries: Vec<HooksLibrary>,
    /// The database of host reservations.
    pub hosts_database: Option<Value>,
    /// The databases of host reservations, if there are several.
    pub hosts_databases: Option<Vec<Value>>,
    /// Identifier types of reservations, in order of preference.
    pub host_reservation_identifiers: Option<Vec<String>>,
    /// Global reservations.
    #[serde(default)]
    pub reservations: Vec<Reservation>,
    /// Shared networks.
    #[serde(default)]
    pub shared_networks: Vec<SharedNetwork>,
    /// Subnets outside any shared network.
    #[serde(default)]
    pub subnet4: Vec<Subnet>,
}

/// An entry of `hooks-libraries`.
#[derive(Deserialize)]
pub struct HooksLibrary {
    /// The path of its file.
    pub library: String,
    /// The parameters, if it has any.
    pub parameters: Option<Value>,
}

/// The client classes that restrict a part of the configuration.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Classes {
    /// The class, in Kea 2.6 and earlier.
    client_class: Option<String>,
    /// The classes, in later versions.
    #[serde(default)]
    client_classes: Vec<String>,
}

impl Classes {
    /// Returns the names of the classes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.client_class.iter().chain(&self.client_classes);
        all.map(String::as_str)
    }
}

/// Parameters that a shared network or subnet inherits from the enclosing scope.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inherited {
    /// T1, in seconds.
    pub renew_timer: Option<u32>,
    /// T2, in seconds.
    pub rebind_timer: Option<u32>,
    /// Whether T1 and T2 are computed as shares of the lifetime if they are not set.
    pub calculate_tee_times: Option<bool>,
    /// T1 as a share of the lifetime, between 0 and 1.
    pub t1_percent: Option<f64>,
    /// T2 as a share of the lifetime, between 0 and 1.
    pub t2_percent: Option<f64>,
    /// Whether Kea looks for global reservations.
    pub reservations_global: Option<bool>,
    /// Whether Kea looks for the subnet's reservations.
    pub reservations_in_subnet: Option<bool>,
}

impl Inherited {
    /// Returns these parameters, with those of `wider` for the unset ones.
    pub fn or(&self, wider: &Inherited) -> Inherited {
        Inherited {
            renew_timer: self.renew_timer.or(wider.renew_timer),
            rebind_timer: self.rebind_timer.or(wider.rebind_timer),
            calculate_tee_times: self.calculate_tee_times.or(wider.calculate_tee_times),
            t1_percent: self.t1_percent.or(wider.t1_percent),
            t2_percent: self.t2_percent.or(wider.t2_percent),
            reservations_global: self.reservations_global.or(wider.reservations_global),
            reservations_in_subnet: self.reservations_in_subnet.or(wider.reservations_in_subnet),
        }
    }
}

/// An entry of `shared-networks`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SharedNetwork {
    /// The name.
    pub name: String,
    /// Parameters its subnets inherit.
    #[serde(flatten)]
    pub inherited: Inherited,
    /// The classes that restrict its clients.
    #[serde(flatten)]
    pub classes: Classes,
    /// The user-context.
    pub user_context: Option<Value>,
    /// The subnets.
    #[serde(default)]
    pub subnet4: Vec<Subnet>,
}

/// An entry of `subnet4`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Subnet {
    /// The subnet id.
    pub id: u32,
    /// The prefix.
    pub subnet: String,
    /// Parameters set for the subnet, or derived by Kea.
    #[serde(flatten)]
    pub inherited: Inherited,
    /// The classes that restrict its clients.
    #[serde(flatten)]
    pub classes: Classes,
    /// The user-context.
    pub user_context: Option<Value>,
    /// The pools.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// The reservations.
    #[serde(default)]
    pub reservations: Vec<Reservation>,
}

/// An entry of `pools`.
#[derive(Deserialize)]
pub struct Pool {
    /// `first-last`, or a prefix.
    pub pool: String,
    /// The classes that restrict its clients.
    #[serde(flatten)]
    pub classes: Classes,
}

/// An entry of `reservations`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reservation {
    /// A MAC address, in hexadecimal with colons.
    pub hw_address: Option<String>,
    /// A client identifier, in hexadecimal.
    pub client_id: Option<String>,
    /// A DUID, in hexadecimal with colons.
    pub duid: Option<String>,
    /// A circuit ID of a relay agent, in hexadecimal.
    pub circuit_id: Option<String>,
    /// An identifier of the flexible identifier hook, in hexadecimal.
    pub flex_id: Option<String>,
    /// The reserved address.
    pub ip_address: Option<String>,
    /// The reserved host name; empty if none.
    #[serde(default)]
    pub hostname: String,
}
