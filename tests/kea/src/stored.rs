//! Contents of Kea's databases that tests write by SQL, as other servers and administrators do.

use std::net::Ipv4Addr;

use crate::{Database, Kind, kea_version};

/// A lease in Kea's database.
#[derive(Debug, Clone)]
pub struct StoredLease {
    /// The address.
    pub address: Ipv4Addr,
    /// The client's hardware address; empty if it has none.
    pub hardware: Vec<u8>,
    /// The client identifier; empty if the client has none.
    pub client_id: Vec<u8>,
    /// Valid lifetime, in seconds.
    pub valid_lifetime: u32,
    /// The end of the lifetime, in seconds since 1970.
    pub expire: u64,
    /// The number of the subnet.
    pub subnet: u32,
    /// Kea's number of the state.
    pub state: u8,
    /// The user context in JSON; empty for none.
    pub user_context: String,
}

impl StoredLease {
    /// Returns a lease of subnet 1 for an hour, half of which is over at `now`.
    pub fn new(address: Ipv4Addr, hardware: impl Into<Vec<u8>>, now: u64) -> Self {
        StoredLease {
            address,
            hardware: hardware.into(),
            client_id: Vec::new(),
            valid_lifetime: 3600,
            expire: now + 1800,
            subnet: 1,
            state: 0,
            user_context: String::new(),
        }
    }
}

impl Database {
    /// Adds leases in one statement.
    #[track_caller]
    pub fn insert_leases(&self, leases: &[StoredLease]) {
        let rows: Vec<String> = leases.iter().map(|lease| self.row(lease)).collect();
        self.sql(&format!(
            "INSERT INTO lease4 (address, hwaddr, client_id, valid_lifetime, expire, subnet_id, \
             fqdn_fwd, fqdn_rev, hostname, state, user_context) VALUES {};",
            rows.join(",\n")
        ));
    }

    /// Returns a lease as a row in SQL.
    fn row(&self, lease: &StoredLease) -> String {
        format!(
            "({}, {}, {}, {}, {}, {}, false, false, '', {}, {})",
            lease.address.to_bits(),
            self.octets(&lease.hardware),
            self.octets(&lease.client_id),
            lease.valid_lifetime,
            self.time(lease.expire),
            lease.subnet,
            lease.state,
            if lease.user_context.is_empty() {
                "NULL".into()
            } else {
                format!("'{}'", lease.user_context)
            },
        )
    }

    /// Changes the hardware address and the user context of a lease.
    #[track_caller]
    pub fn change_lease(&self, address: Ipv4Addr, hardware: &[u8], user_context: &str) {
        self.sql(&format!(
            "UPDATE lease4 SET hwaddr = {}, user_context = '{user_context}' WHERE address = {};",
            self.octets(hardware),
            address.to_bits()
        ));
    }

    /// Returns the addresses, hardware addresses and Kea's numbers of the states of all leases that
    /// have not ended, ordered by address.
    #[track_caller]
    pub fn leases(&self) -> Vec<(Ipv4Addr, Vec<u8>, u8)> {
        let hexadecimal = match self.kind() {
            Kind::PostgreSql => "encode(hwaddr, 'hex')",
            Kind::MariaDb => "hex(hwaddr)",
        };
        let rows = self.sql(&format!(
            "SELECT address, {hexadecimal}, state FROM lease4
             WHERE state < 2 AND valid_lifetime > 0 AND expire > CURRENT_TIMESTAMP ORDER BY address;"
        ));
        let octets = |digits: &str| -> Vec<u8> {
            let pairs = digits.as_bytes().chunks(2);
            let pairs = pairs.filter_map(|pair| std::str::from_utf8(pair).ok());
            pairs
                .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
                .collect()
        };
        rows.iter()
            .map(|row| {
                let [address, hardware, state] = &row[..] else {
                    panic!("three values: {row:?}")
                };
                let address: u32 = address.parse().expect("an address");
                let state = state.parse().expect("a state");
                (address.into(), octets(hardware), state)
            })
            .collect()
    }

    /// Removes the lease of an address.
    #[track_caller]
    pub fn delete_lease(&self, address: Ipv4Addr) {
        let address = address.to_bits();
        self.sql(&format!("DELETE FROM lease4 WHERE address = {address};"));
    }

    /// Reserves addresses of a subnet for hardware addresses in one statement.
    #[track_caller]
    pub fn reserve(&self, subnet: u32, reservations: &[(&[u8], Ipv4Addr)]) {
        let rows: Vec<String> = reservations
            .iter()
            .map(|(hardware, address)| {
                let identifier = self.octets(hardware);
                format!("({identifier}, 0, {subnet}, {})", address.to_bits())
            })
            .collect();
        self.sql(&format!(
            "INSERT INTO hosts (dhcp_identifier, dhcp_identifier_type, dhcp4_subnet_id, \
             ipv4_address) VALUES {};",
            rows.join(",\n")
        ));
    }

    /// Adds an option to the reservation of an address; `value` is in the notation of Kea's
    /// configuration.
    #[track_caller]
    pub fn reserve_option(&self, address: Ipv4Addr, code: u8, value: &str) {
        /// Kea's number of the scope of reservations.
        const OF_RESERVATIONS: u8 = 3;
        // Kea 3.0 added the classes for which the option is, 3.2 demands them.
        let (column, classes) = match kea_version().starts_with("2.") {
            true => ("", ""),
            false => (", client_classes", ", '[ ]'"),
        };
        self.sql(&format!(
            "INSERT INTO dhcp4_options (code, formatted_value, space, persistent, host_id, scope_id{column})
             SELECT {code}, '{value}', 'dhcp4', false, host_id, {OF_RESERVATIONS}{classes} FROM hosts
             WHERE ipv4_address = {};",
            address.to_bits()
        ));
    }

    /// Removes the reservation of an address, which must have no options.
    #[track_caller]
    pub fn remove_reservation(&self, address: Ipv4Addr) {
        let address = address.to_bits();
        self.sql(&format!(
            "DELETE FROM hosts WHERE ipv4_address = {address};"
        ));
    }

    /// Adds a subnet with one pool to the configuration of all servers.
    #[track_caller]
    pub fn configure_subnet(&self, id: u32, prefix: &str, pool: [Ipv4Addr; 2]) {
        let (revision, [first, last]) = match self.kind() {
            Kind::PostgreSql => ("SELECT", pool.map(|address| format!("'{address}'"))),
            Kind::MariaDb => ("CALL", pool.map(|address| address.to_bits().to_string())),
        };
        self.sql(&format!(
            "BEGIN;
             {revision} createAuditRevisionDHCP4(CURRENT_TIMESTAMP, 'all', 'a subnet', false);
             INSERT INTO dhcp4_subnet (subnet_id, subnet_prefix, modification_ts)
                 VALUES ({id}, '{prefix}', CURRENT_TIMESTAMP);
             INSERT INTO dhcp4_subnet_server (subnet_id, server_id, modification_ts)
                 VALUES ({id}, 1, CURRENT_TIMESTAMP);
             INSERT INTO dhcp4_pool (start_address, end_address, subnet_id, modification_ts)
                 VALUES ({first}, {last}, {id}, CURRENT_TIMESTAMP);
             COMMIT;"
        ));
    }

    /// Removes a subnet from the configuration of all servers.
    #[track_caller]
    pub fn remove_subnet(&self, id: u32) {
        let revision = match self.kind() {
            Kind::PostgreSql => "SELECT",
            Kind::MariaDb => "CALL",
        };
        self.sql(&format!(
            "BEGIN;
             {revision} createAuditRevisionDHCP4(CURRENT_TIMESTAMP, 'all', 'no subnet', false);
             DELETE FROM dhcp4_pool WHERE subnet_id = {id};
             DELETE FROM dhcp4_subnet WHERE subnet_id = {id};
             COMMIT;"
        ));
    }

    /// Returns octets in SQL; NULL for none.
    fn octets(&self, octets: &[u8]) -> String {
        let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        match self.kind() {
            _ if octets.is_empty() => "NULL".into(),
            Kind::PostgreSql => format!("'\\x{digits}'"),
            Kind::MariaDb => format!("x'{digits}'"),
        }
    }

    /// Returns a time in SQL.
    fn time(&self, seconds: u64) -> String {
        match self.kind() {
            Kind::PostgreSql => format!("to_timestamp({seconds})"),
            Kind::MariaDb => format!("from_unixtime({seconds})"),
        }
    }
}
