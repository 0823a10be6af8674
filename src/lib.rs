//! kea-blq: DHCPv4 Bulk Leasequery (RFC 6926) for ISC Kea.
