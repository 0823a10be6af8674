//! Every message of the log: what it means and what to do.

/// A message of the log.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Its identifier.
    pub id: &'static str,
    /// When it appears.
    pub meaning: &'static str,
    /// What the operator does about it.
    pub action: &'static str,
}

/// The message of an identifier.
pub fn find(id: &str) -> Option<&'static Message> {
    let index = MESSAGES
        .binary_search_by_key(&id, |message| message.id)
        .ok()?;
    MESSAGES.get(index)
}

/// Shorthand for the table below.
const fn message(id: &'static str, meaning: &'static str, action: &'static str) -> Message {
    Message {
        id,
        meaning,
        action,
    }
}

/// What is done about messages that tell of no trouble.
const NOTHING: &str = "Nothing.";

/// All messages, in the order of their identifiers.
pub const MESSAGES: &[Message] = &[
    message(
        "BLQ_ACCEPT_FAILED",
        "The system refused to hand over a connection that was opened to the listener, or has no means to \
         serve it. It is tried again.",
        "Look for what the text names: memory, or files that all processes of the machine have open.",
    ),
    message(
        "BLQ_ACCEPT_PAUSED",
        "All descriptors that connections may have are in use. New connections wait in the system until \
         others are closed; descriptors that Kea needs stay free. Logged once a minute.",
        "Raise the limit of open files of kea-dhcp4 (LimitNOFILE), or lower \
         'advanced.max-requester-connections'.",
    ),
    message(
        "BLQ_CALLOUT_FAILED",
        "Kea's arguments to a callout could not be read, so a change of a lease may have been \
         missed. The text names the callout and what went wrong.",
        "Report it, with the version of Kea. What was missed is found when all leases are compared \
         next ('advanced.reconciliation-interval'), or at a reconfiguration.",
    ),
    message(
        "BLQ_CHECKED",
        "Kea was started with -T: the configuration was checked, and is good. Nothing listens, and \
         the state file is not touched.",
        NOTHING,
    ),
    message(
        "BLQ_COMMAND_FAILED",
        "What a lease command changed could not be read from the lease database.",
        "Look for messages about the lease database. What was missed is found when all leases are \
         compared next ('advanced.reconciliation-interval'), or at a reconfiguration.",
    ),
    message(
        "BLQ_CONFIGURATION_REFUSED",
        "The configuration was refused; the text says which parameter has what value, and what is \
         allowed.",
        "Correct the configuration.",
    ),
    message(
        "BLQ_CONNECTION_CLOSED",
        "A requester's connection ended; the text says why.",
        NOTHING,
    ),
    message(
        "BLQ_CONNECTION_FAILED",
        "A requester's connection was closed because of what it sent, or because it failed.",
        "If it happens again and again with one requester, look for its fault there.",
    ),
    message("BLQ_CONNECTION_OPENED", "A requester connected.", NOTHING),
    message(
        "BLQ_DESCRIPTORS_SHORT",
        "The process may have fewer descriptors (open files) than the configuration asks for, or than are \
         needed beside Kea's: the parameter that the text names has less effect. Kea can use only descriptors \
         with numbers below 1024, so connections get other ones where the limit is above that, and else leave a \
         reserve.",
        "Raise the limit of open files of kea-dhcp4 (LimitNOFILE) to what the text says, or lower the parameter.",
    ),
    message(
        "BLQ_EVENTS_LOST",
        "Lease changes came faster than they could be taken in, and some were lost: answers may \
         be out of date.",
        "Nothing: all leases are compared with Kea's at once. Report it if it happens again.",
    ),
    message(
        "BLQ_IDLE_TIME_SHORT",
        "'advanced.max-requester-idle-time' is below what RFC 6926 recommends.",
        "Nothing, if it is meant.",
    ),
    message(
        "BLQ_LEASES_UNREADABLE",
        "Kea's leases cannot be read, most likely because the lease database is down. Until they can \
         be, queries are answered from the mirror of before a reload, if there is a complete one; else they \
         wait, and end with QueryTerminated after 'advanced.max-requester-idle-time'. If they could not be read at all when \
         Kea was configured, nothing listens. It is tried again every few seconds.",
        "Look for messages about the lease database.",
    ),
    message(
        "BLQ_LEASE_CHANGED",
        "Kea reported a change of a lease (debug level). MAC address and client identifier are labelled as in \
         Kea's own log; the other terms are those of Kea's lease commands.",
        NOTHING,
    ),
    message(
        "BLQ_LISTENING",
        "The server accepts TCP connections at this address and port.",
        NOTHING,
    ),
    message(
        "BLQ_LISTEN_FAILED",
        "An address or port cannot be listened on, or the threads that serve requesters cannot be started. DHCP \
         goes on, as do the other listeners, and it is tried again every few seconds. Logged once for each \
         cause; BLQ_LISTENING says when it works.",
        "Nothing, if the address comes later, as with a virtual one. Else correct the address or port, end the \
         process that has the port, or give kea-dhcp4 the capability for it.",
    ),
    message(
        "BLQ_LOADED",
        "All leases of Kea's lease database have been taken in; the text says how many. What was \
         asked before is answered now.",
        NOTHING,
    ),
    message(
        "BLQ_LOAD_FAILED",
        "Kea's answer could not be read when it loaded the library, which refuses to be loaded.",
        "Report it, with the version of Kea.",
    ),
    message(
        "BLQ_MESSAGE",
        "A message without an identifier of its own.",
        "Report it.",
    ),
    message(
        "BLQ_MIRROR_FAILED",
        "A fault in this library (see BLQ_PANIC) kept the leases from being loaded, or broke off a change \
         of them half-way. The mirror cannot be trusted any more: from now on each query ends \
         with QueryTerminated, and the state file is not written. DHCP service goes on.",
        "Reload Kea's configuration (config-reload) or restart Kea: leases are loaded anew. Report it with \
         the text of BLQ_PANIC.",
    ),
    message(
        "BLQ_NETWORK_UNREADABLE",
        "Kea's configuration was changed while it runs, by a command or from a database, and cannot be \
         understood; answers go by the configuration before.",
        "Correct what the text names.",
    ),
    message(
        "BLQ_NOT_ENCRYPTED",
        "Parameters for TLS were accepted, but TLS is not served: connections are not encrypted, and \
         no certificates are asked for. The text says which parameters.",
        "Remove the parameters, and keep the connections inside a network or tunnel that is protected.",
    ),
    message(
        "BLQ_NOT_LISTENING",
        "'advanced.bulk-query-enabled' is false: no queries are answered.",
        "Nothing, if it is meant.",
    ),
    message(
        "BLQ_NOT_SERVING",
        "The configuration in force cannot be served, most often after a new one was refused: no queries \
         are answered. It is tried again every few seconds.",
        "Correct what the text and the message before it say.",
    ),
    message(
        "BLQ_PANIC",
        "A fault in this library. It was contained: Kea goes on. Each place in the code is told of \
         once.",
        "Report it with the text. A reconfiguration starts the library anew.",
    ),
    message(
        "BLQ_PARAMETER_NO_EFFECT",
        "A parameter of Kea's own lease query hook was accepted, but has no effect here.",
        "Nothing, or remove the parameter.",
    ),
    message(
        "BLQ_PARTNER_UNKNOWN",
        "What Kea's high-availability library does could not be asked (debug level).",
        NOTHING,
    ),
    message(
        "BLQ_PREVIOUS_CONFIGURATION",
        "The new configuration was refused, and the previous one is served again.",
        "Correct the new configuration; the message before says what is wrong.",
    ),
    message(
        "BLQ_QUERY_MALFORMED",
        "A query was answered with status MalformedQuery; the text says which field is wrong. Logged once for \
         each requester and minute.",
        "Report it to the requester's vendor.",
    ),
    message(
        "BLQ_QUERY_NOT_ALLOWED",
        "A query was answered with status NotAllowed; the text says why. Logged once for each requester and \
         minute.",
        "Add the query type to the requester's 'query-types' if it may use it.",
    ),
    message(
        "BLQ_QUERY_UNANSWERABLE",
        "A requester sent something that is no query, and the connection was closed: no DHCP message, one of a \
         type that is not for TCP, or one that ended before it had all the octets that its message-size says \
         (RFC 6926 section 6.1). Logged once for each requester and minute.",
        "Find out what speaks to this port there. If it is a requester, report it to its vendor.",
    ),
    message(
        "BLQ_RECENT_UNUSABLE",
        "The file of recent changes, '.recent' beside the state file, cannot be opened or belongs to another \
         program, which it is left to. The state file is used without it: a change of the last second before \
         Kea is killed may not be in later answers to queries for changes.",
        "Make the file writable for Kea, or move it away, and reconfigure.",
    ),
    message(
        "BLQ_RECONCILED",
        "The mirror was compared with all leases of Kea's lease database (debug level).",
        NOTHING,
    ),
    message(
        "BLQ_RECONCILIATION_FAILED",
        "The lease database could not be read to compare the mirror with it. Leases changed by other \
         servers are not seen until it can.",
        "Look for messages about the lease database.",
    ),
    message(
        "BLQ_RECONCILIATION_SLOW",
        "To compare all leases with Kea's lease database takes longer than \
         'advanced.reconciliation-interval', so changes by other servers may be seen that much later. \
         Told once.",
        "Nothing, if that is soon enough; else look for a slow database.",
    ),
    message(
        "BLQ_RECONCILING_AGAIN",
        "The lease database can be read again after BLQ_RECONCILIATION_FAILED.",
        NOTHING,
    ),
    message(
        "BLQ_REQUESTER_ANYONE",
        "'requesters' admits every address.",
        "Make sure that only those who may know every binding can connect.",
    ),
    message(
        "BLQ_REQUESTER_REFUSED",
        "Someone connected who is not among 'requesters'; the connection was closed. Logged once for each \
         address and minute.",
        "Add the address to 'requesters' if it is a requester's.",
    ),
    message(
        "BLQ_RESERVATIONS_UNREADABLE",
        "Host reservations cannot be read from their database. Until they can be, the addresses reserved \
         in it are not among all configured addresses. It is tried again every few seconds.",
        "Look for messages about the hosts database.",
    ),
    message(
        "BLQ_STATE_SET_ASIDE",
        "The state file is this library's, but damaged, of a newer version, or not the one that was \
         written before. It was renamed, and a new one begun: states and times of bindings are those known \
         to Kea's leases and the mirror.",
        "Look for trouble with the disk. If an older version of this library was put back, so can \
         the file be.",
    ),
    message(
        "BLQ_STATE_UNAVAILABLE",
        "The state file cannot be opened, or its name has come to be that of a file that is not this \
         library's, which is left as it is. Queries are answered, and it is tried again, but what Kea does \
         not keep is not saved until then.",
        "Make the file, and its directory, writable for Kea, or name another in 'state-file'.",
    ),
    message(
        "BLQ_STATE_WRITE_FAILED",
        "A change could not be written to the state file. Unless Kea is ending, it is tried again. A \
         file of another program that has taken the state file's name is left as it is.",
        "Look for a full disk or a disk in trouble, or for what has taken the file away.",
    ),
    message(
        "BLQ_STATE_WRITTEN_AGAIN",
        "The state file can be written again after BLQ_STATE_WRITE_FAILED or \
         BLQ_STATE_UNAVAILABLE; all changes since are in it.",
        NOTHING,
    ),
    message(
        "BLQ_STOPPED",
        "The server stopped listening: at a reconfiguration, or because Kea ends.",
        NOTHING,
    ),
    message(
        "BLQ_SUBNET_CONTRADICTED",
        "A lease has the id of a subnet that is not configured or does not contain its address, as after \
         subnets were renumbered. The subnet that contains the address decides on its VPN, options and times. \
         Logged for the first such lease of a configuration.",
        "Nothing, if it is meant; else correct the subnet's \"id\".",
    ),
    message(
        "BLQ_TOO_MANY_CONNECTIONS",
        "A connection was closed because as many are open as may be. Logged once for each address and minute.",
        "Raise 'advanced.max-requester-connections', or the requester's 'max-connections'; where the text names \
         descriptors, the limit of open files of kea-dhcp4 (LimitNOFILE).",
    ),
    message(
        "BLQ_WRONG_DAEMON",
        "The library was loaded by another daemon than kea-dhcp4, and refuses to work there.",
        "Remove it from that daemon's 'hooks-libraries'.",
    ),
    message(
        "BLQ_XID_IN_USE",
        "A requester used the transaction id of a query in progress on the same connection \
         (RFC 6926 section 7.1); the connection was closed.",
        "Report it to the requester's vendor.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Collects the identifiers in the sources under `directory`, this file left out.
    fn used(directory: &Path, ids: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                used(&path, ids);
            } else if !path.ends_with("log/catalogue.rs") {
                let source = fs::read_to_string(&path).unwrap();
                // Tests may make them up.
                let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
                ids.extend(
                    source
                        .split('"')
                        .filter(|text| is_id(text))
                        .map(str::to_owned),
                );
            }
        }
    }

    /// Whether a string literal is a message's identifier.
    fn is_id(text: &str) -> bool {
        text.starts_with("BLQ_")
            && text
                .bytes()
                .all(|octet| octet.is_ascii_uppercase() || octet == b'_')
    }

    #[test]
    fn the_catalogue_has_every_message_logged_and_no_other() {
        let mut ids = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut ids);
        let catalogued = MESSAGES.iter().map(|message| message.id.to_owned());
        assert_eq!(ids, catalogued.collect());
    }

    #[test]
    fn messages_are_found_by_their_identifiers() {
        for message in MESSAGES {
            assert_eq!(find(message.id).map(|found| found.id), Some(message.id));
        }
        assert!(find("BLQ_NO_SUCH_MESSAGE").is_none());
    }
}
