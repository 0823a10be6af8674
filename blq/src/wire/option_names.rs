//! Names of options, for the command line.

/// Names of the options that a user may request; the first name of a code is its canonical one.
const OPTION_NAMES: &[(u8, &str)] = &[
    (1, "subnet-mask"),
    (2, "time-offset"),
    (3, "routers"),
    (4, "time-servers"),
    (6, "domain-name-servers"),
    (7, "log-servers"),
    (12, "host-name"),
    (15, "domain-name"),
    (17, "root-path"),
    (26, "interface-mtu"),
    (28, "broadcast-address"),
    (33, "static-routes"),
    (42, "ntp-servers"),
    (43, "vendor-encapsulated-options"),
    (44, "netbios-name-servers"),
    (50, "dhcp-requested-address"),
    (51, "dhcp-lease-time"),
    (51, "lease-time"),
    (53, "dhcp-message-type"),
    (54, "dhcp-server-identifier"),
    (54, "server-identifier"),
    (55, "dhcp-parameter-request-list"),
    (57, "dhcp-max-message-size"),
    (58, "dhcp-renewal-time"),
    (58, "renewal-time"),
    (59, "dhcp-rebinding-time"),
    (59, "rebinding-time"),
    (60, "vendor-class-identifier"),
    (61, "dhcp-client-identifier"),
    (61, "client-identifier"),
    (61, "client-id"),
    (66, "tftp-server-name"),
    (67, "boot-file-name"),
    (77, "user-class"),
    (81, "fqdn"),
    (82, "relay-agent-information"),
    (82, "dhcp-agent-options"),
    (90, "authentication"),
    (91, "client-last-transaction-time"),
    (92, "associated-ip"),
    (93, "client-system"),
    (94, "client-ndi"),
    (97, "uuid-guid"),
    (97, "client-machine-identifier"),
    (116, "auto-config"),
    (118, "subnet-selection"),
    (119, "domain-search"),
    (121, "classless-static-route"),
    (124, "vivco-suboptions"),
    (124, "vendor-identifying-vendor-class"),
    (125, "vivso-suboptions"),
    (125, "vendor-identifying-vendor-options"),
    (151, "status-code"),
    (152, "base-time"),
    (153, "start-time-of-state"),
    (154, "query-start-time"),
    (155, "query-end-time"),
    (156, "dhcp-state"),
    (157, "data-source"),
    (221, "vpn-id"),
    (221, "vss"),
];

/// Returns the code of the option called `name`; `None` if the name is not known.
pub fn option_code(name: &str) -> Option<u8> {
    OPTION_NAMES
        .iter()
        .find(|(_, known)| known.eq_ignore_ascii_case(name))
        .map(|(code, _)| *code)
}

/// Returns the canonical name of option `code`; `None` if no name is known.
pub fn option_name(code: u8) -> Option<&'static str> {
    OPTION_NAMES
        .iter()
        .find(|(known, _)| *known == code)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6926 section 10: the assigned numbers.
    #[test]
    fn names_options_as_the_registry_does() {
        for (name, code) in [
            ("status-code", 151),
            ("base-time", 152),
            ("start-time-of-state", 153),
            ("query-start-time", 154),
            ("query-end-time", 155),
            ("dhcp-state", 156),
            ("data-source", 157),
        ] {
            assert_eq!(option_code(name), Some(code));
            assert_eq!(option_name(code), Some(name));
        }
    }

    #[test]
    fn knows_no_name_of_unassigned_options() {
        assert_eq!(option_name(250), None);
        assert_eq!(option_code("no-such-option"), None);
    }
}
