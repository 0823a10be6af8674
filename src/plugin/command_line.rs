//! The purpose for which kea-dhcp4 was started, by its command line.

/// The options of kea-dhcp4 that take an argument, in any version up to 3.2: the argument must not be taken for
/// an option.
const WITH_ARGUMENT: &[u8] = b"cpPtT";

/// Returns whether the process only checks a configuration (`-t`, and `-T`, which loads its hooks, too), by
/// the arguments that follow the program's name.
///
/// Kea does not pass this on to its hooks. Kea reads its options by getopt, and so does this function: several
/// options in one argument, an option's own argument attached or in the next one, and no option after `--`.
pub fn checks_configuration<A: AsRef<[u8]>>(arguments: impl IntoIterator<Item = A>) -> bool {
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(options) = argument.as_ref().strip_prefix(b"-") else {
            continue;
        };
        if options == b"-" {
            return false;
        }
        for (index, option) in options.iter().enumerate() {
            if matches!(option, b't' | b'T') {
                return true;
            }
            if WITH_ARGUMENT.contains(option) {
                if index + 1 == options.len() {
                    arguments.next();
                }
                break;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_a_check_from_a_server() {
        for (line, checks) in [
            ("-c /etc/kea/kea-dhcp4.conf", false),
            ("-d -c /etc/kea/kea-dhcp4.conf", false),
            ("-T /etc/kea/kea-dhcp4.conf", true),
            ("-t /etc/kea/kea-dhcp4.conf", true),
            ("-T/etc/kea/kea-dhcp4.conf", true),
            ("-dT /etc/kea/kea-dhcp4.conf", true),
            ("-d -X -T file", true),
            ("-W", false),
            ("-p 6767 -P 6868 -T file", true),
            ("-p6767 -T file", true),
            // Files that look like options.
            ("-c -T", false),
            ("-c-T", false),
            ("-dc -T", false),
            ("-c file -- -T", false),
            ("", false),
            ("-", false),
        ] {
            let arguments = line.split_whitespace().map(str::as_bytes);
            assert_eq!(checks_configuration(arguments), checks, "{line}");
        }
    }
}
