//! A DHCPv4 Bulk Leasequery (RFC 6926) requestor.
