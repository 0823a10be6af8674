//! What tests put into Kea's databases by SQL, as other servers and administrators do.

use std::net::Ipv4Addr;

use crate::{Database, Kind};

/// A lease of Kea's database.
#[derive(Debug, Clone)]
pub struct StoredLease {
    /// Its address.
    pub address: Ipv4Addr,
    /// The client's hardware address; none if empty.
    pub hardware: Vec<u8>,
    /// The client identifier; none if empty.
    pub client_id: Vec<u8>,
    /// Valid lifetime, in seconds.
    pub valid_lifetime: u32,
    /// When that ends, in seconds since 1970.
    pub expire: u64,
    /// The number of the subnet.
    pub subnet: u32,
    /// Kea's number of its state.
    pub state: u8,
    /// JSON; none if empty.
    pub user_context: String,
}

impl StoredLease {
    /// A client's lease of subnet 1, for an hour whose half is over at `now`.
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
    /// Adds leases, all at once.
    #[track_caller]
    pub fn insert_leases(&self, leases: &[StoredLease]) {
        let rows: Vec<String> = leases.iter().map(|lease| self.row(lease)).collect();
        self.sql(&format!(
            "INSERT INTO lease4 (address, hwaddr, client_id, valid_lifetime, expire, subnet_id, \
             fqdn_fwd, fqdn_rev, hostname, state, user_context) VALUES {};",
            rows.join(",\n")
        ));
    }

    /// A lease as a row.
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

    /// Gives a lease to another hardware address, and it another user-context.
    #[track_caller]
    pub fn change_lease(&self, address: Ipv4Addr, hardware: &[u8], user_context: &str) {
        self.sql(&format!(
            "UPDATE lease4 SET hwaddr = {}, user_context = '{user_context}' WHERE address = {};",
            self.octets(hardware),
            address.to_bits()
        ));
    }

    /// The addresses, hardware addresses and Kea's numbers of the states of all leases that are not
    /// over, in the order of their addresses.
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

    /// Reserves addresses of a subnet for hardware addresses, all at once.
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

    /// Adds an option to what is reserved with an address; `value` as in Kea's configuration.
    #[track_caller]
    pub fn reserve_option(&self, address: Ipv4Addr, code: u8, value: &str) {
        /// Kea's number for options of reservations.
        const OF_RESERVATIONS: u8 = 3;
        self.sql(&format!(
            "INSERT INTO dhcp4_options (code, formatted_value, space, persistent, host_id, scope_id)
             SELECT {code}, '{value}', 'dhcp4', false, host_id, {OF_RESERVATIONS} FROM hosts
             WHERE ipv4_address = {};",
            address.to_bits()
        ));
    }

    /// Removes the reservation of an address, without options.
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

    /// Octets in SQL, no octets as no value.
    fn octets(&self, octets: &[u8]) -> String {
        let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        match self.kind() {
            _ if octets.is_empty() => "NULL".into(),
            Kind::PostgreSql => format!("'\\x{digits}'"),
            Kind::MariaDb => format!("x'{digits}'"),
        }
    }

    /// A time in SQL.
    fn time(&self, seconds: u64) -> String {
        match self.kind() {
            Kind::PostgreSql => format!("to_timestamp({seconds})"),
            Kind::MariaDb => format!("from_unixtime({seconds})"),
        }
    }
}
