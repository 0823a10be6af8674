//! The configuration examples, read without Kea. The tests in a real Kea load them too.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use dhcp_blq::config::Config;
use dhcp_blq::kea_config::{KeaConfig, ignored_vpns};
use dhcp_blq::model::vpn::Vpn;
use serde_json::Value;
use tracing::Level;

/// Returns the file name and the contents of every example.
fn examples() -> Vec<(String, Value)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("kea-config-examples");
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // Kea allows comments, JSON does not. The examples have them on separate lines.
            let json: String = fs::read_to_string(&path)
                .unwrap()
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            let value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, value)
        })
        .collect()
}

/// Returns the entry of the hook in an example.
fn hook<'a>(name: &str, example: &'a Value) -> &'a Value {
    let hook = &example["Dhcp4"]["hooks-libraries"][0];
    let library = hook["library"].as_str().unwrap();
    assert!(library.ends_with("/libdhcp_blq.so"), "{name}");
    hook
}

#[test]
fn accepts_the_parameters_of_every_example() {
    let examples = examples();
    assert_eq!(examples.len(), 7);
    for (name, example) in examples {
        let config = Config::parse(&hook(&name, &example)["parameters"].to_string());
        assert!(config.is_ok(), "{name}: {}", config.unwrap_err());
    }
}

#[test]
fn no_example_has_a_parameter_or_vpn_that_causes_a_warning() {
    for (name, example) in examples() {
        let config = Config::parse(&hook(&name, &example)["parameters"].to_string()).unwrap();
        let mut notices = config.notices.iter();
        let warning = notices.find(|notice| notice.level == Level::WARN);
        assert_eq!(warning, None, "{name}");
        assert_eq!(ignored_vpns(&example.to_string()), [""; 0], "{name}");
    }
}

#[test]
fn accepts_the_vpns_and_addresses_of_every_example() {
    for (name, example) in examples() {
        let kea_config = KeaConfig::new(&example.to_string(), Vec::new(), &[])
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!kea_config.ranges.is_empty(), "{name}");
        let vpns = kea_config.subnets.iter().map(|subnet| &subnet.vpn);
        let vpns: BTreeSet<&Vpn> = vpns.filter(|vpn| **vpn != Vpn::Default).collect();
        assert_eq!(vpns.len(), if name == "vpns.json" { 3 } else { 0 });
    }
}
