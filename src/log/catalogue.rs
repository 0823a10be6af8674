//! The catalogue of log messages: the meaning of each and the operator's action.
//!
//! `docs/log-messages.md` is generated from it by the test `log_messages`.

/// A message of the log.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// The identifier, as in Kea's log.
    pub id: &'static str,
    /// The condition that causes the message, and in a paragraph of its own, after `Action:`, the operator's
    /// action.
    pub text: &'static str,
}

/// Returns the message with an identifier.
pub fn find(id: &str) -> Option<&'static Message> {
    let index = MESSAGES
        .binary_search_by_key(&id, |message| message.id)
        .ok()?;
    MESSAGES.get(index)
}

/// Defines the table of messages. The text of each is the documentation of its identifier.
macro_rules! messages {
    ($($(#[doc = $line:literal])+ $id:ident,)+) => {
        /// All messages, in the order of their identifiers.
        pub const MESSAGES: &[Message] = &[
            $(Message { id: stringify!($id), text: concat!($($line, "\n"),+) },)+
        ];
    };
}

messages! {
    /// The operating system failed to accept a connection that a peer had opened, or had no resources to
    /// serve it. The server tries again. Logged at most once a minute.
    ///
    /// Action: Look for the shortage that the text names: memory, or the number of files that all processes
    /// of the machine have open.
    BLQ_ACCEPT_FAILED,

    /// All descriptors that connections may use are in use. New connections wait in the kernel until others
    /// are closed; the descriptors that Kea needs stay free. Logged at most once a minute.
    ///
    /// Action: Raise the limit of open files of kea-dhcp4 (LimitNOFILE), or lower
    /// 'advanced.max-requester-connections' or 'advanced.max-active-connections'.
    BLQ_ACCEPT_PAUSED,

    /// An entry of 'requesters' has 'certificates', but 'advanced.active-query-insecure' is true: whoever connects from
    /// its addresses without TLS is sent every change of a lease, and no certificate is requested. The text names the
    /// entry.
    ///
    /// Action: Set 'advanced.active-query-insecure' to false if all requesters use TLS. Otherwise remove "active" from
    /// 'query-types' of requesters that must present a certificate, or keep their connections inside a protected
    /// network or tunnel.
    BLQ_ACTIVE_INSECURE,

    /// An active query (RFC 7724) ended with QueryTerminated, because as many are in progress as
    /// 'advanced.max-active-connections' allows, or as the process has descriptors for. Logged at most once a minute
    /// for each address.
    ///
    /// Action: Raise the limit that the text names, or find out why the requester opens so many connections
    /// (blq4-connections).
    BLQ_ACTIVE_LIMIT,

    /// A connection was closed because as many are open from its address as 'max-connections-per-address' of its
    /// entry in 'requesters' allows. Logged at most once a minute for each address.
    ///
    /// Action: Raise the limit, or find out why the requester opens so many connections (blq4-connections).
    BLQ_ADDRESS_LIMIT,

    /// The callouts that the hook does not need could not be deregistered while Kea loaded the library. Kea
    /// calls them without use, which costs time. Leases are mirrored as usual.
    ///
    /// Action: Report it, with the version of Kea.
    BLQ_CALLOUTS_KEPT,

    /// Kea's arguments to a callout could not be read, so a change of a lease may have been missed. The text
    /// names the callout and the error.
    ///
    /// Action: Report it, with the version of Kea. A missed change is found by the next resync
    /// ('advanced.reconciliation-interval'), or at a reconfiguration.
    BLQ_CALLOUT_FAILED,

    /// Kea was started with -T, and the configuration is valid. The hook does not listen, and does not touch
    /// the state file.
    ///
    /// Action: None.
    BLQ_CHECKED,

    /// Kea did not register a control command of the hook, such as blq4-status: the text names the command and
    /// the error. Leases are mirrored and queries answered as usual.
    ///
    /// Action: Report it, with the version of Kea.
    BLQ_COMMANDS_NOT_REGISTERED,

    /// The leases that a command changed could not be read from the lease database.
    ///
    /// Action: Look for messages about the lease database. The changes are found by the next resync
    /// ('advanced.reconciliation-interval'), or at a reconfiguration.
    BLQ_COMMAND_FAILED,

    /// The state file has grown to more than twice the octets it needs, and is not compacted: a file of
    /// another program has the name of the state file with '.compacted', and is left as it is. The state file
    /// stays in use, and the compaction is tried again when the file has grown by half.
    ///
    /// Action: Move the other file away.
    BLQ_COMPACTED_FOREIGN,

    /// The configuration was refused; the text names the parameter, its value and the values allowed.
    ///
    /// Action: Correct the configuration.
    BLQ_CONFIGURATION_REFUSED,

    /// A requester's connection ended; the text gives the reason (debug level).
    ///
    /// Action: None.
    BLQ_CONNECTION_CLOSED,

    /// A requester's connection was closed because of a network error, or because it did not end in time
    /// (debug level).
    ///
    /// Action: None. If it recurs with one requester, look for the fault there.
    BLQ_CONNECTION_FAILED,

    /// A requester connected (debug level).
    ///
    /// Action: None.
    BLQ_CONNECTION_OPENED,

    /// The limit of open files is too low for the parameter that the text names, which therefore has less
    /// effect. Kea can use only descriptors with numbers below 1024: connections get higher numbers if the
    /// limit allows them, and otherwise leave a reserve to Kea.
    ///
    /// Action: Raise the limit of open files of kea-dhcp4 (LimitNOFILE) to the number in the text, or lower
    /// the parameter.
    BLQ_DESCRIPTORS_SHORT,

    /// A connection was closed because as many are open as the process has descriptors for, fewer than
    /// 'advanced.max-requester-connections'. Logged at most once a minute for each address.
    ///
    /// Action: Raise the limit of open files of kea-dhcp4 (LimitNOFILE).
    BLQ_DESCRIPTOR_LIMIT,

    /// An administrator ended the connections of a requester by the command blq4-disconnect.
    ///
    /// Action: None.
    BLQ_DISCONNECTED,

    /// Lease events came faster than the mirror could apply them, and some were dropped: answers may be out
    /// of date. A resync of all leases begins at once.
    ///
    /// Action: None. Report it if it recurs.
    BLQ_EVENTS_LOST,

    /// A time-out ('max-requester-idle-time', 'active-idle-timeout' or 'active-send-timeout') is below the value that RFC
    /// 6926 or RFC 7724 recommends.
    ///
    /// Action: None, if the value is intended.
    BLQ_IDLE_TIME_SHORT,

    /// Kea's configuration was changed at run time, by a command or from a database, and the new one cannot
    /// be understood. Answers follow the configuration before.
    ///
    /// Action: Correct the item that the text names.
    BLQ_KEA_CONFIG_UNREADABLE,

    /// The lease manager could not be made to report changes of leases, most likely because the lease
    /// database is down. Changes by commands and by high-availability partners are found by the next resync
    /// only. The hook tries again.
    ///
    /// Action: Look for messages about the lease database.
    BLQ_LEASES_NOT_TRACKED,

    /// The lease manager could not be made to stop its reports of changes of leases, at a reconfiguration or
    /// when Kea ends.
    ///
    /// Action: Report it, with the version of Kea, and restart Kea.
    BLQ_LEASES_STILL_TRACKED,

    /// Kea's leases cannot be read, most likely because the lease database is down. The hook tries again
    /// every few seconds. Until it succeeds, queries are answered from a complete mirror that was handed over
    /// across a reload, if there is one; otherwise they wait, and end with QueryTerminated after
    /// 'advanced.max-requester-idle-time'. If no lease could be read when Kea was configured, the hook does
    /// not listen.
    ///
    /// Action: Look for messages about the lease database.
    BLQ_LEASES_UNREADABLE,

    /// Kea reported a change of a lease (debug level). MAC address and client identifier are written as in
    /// Kea's own log; the other terms are those of Kea's lease commands.
    ///
    /// Action: None.
    BLQ_LEASE_CHANGED,

    /// The server accepts TCP connections at this address and port.
    ///
    /// Action: None.
    BLQ_LISTENING,

    /// The server cannot listen on an address and port. DHCP service and the other listeners continue, and
    /// the server tries again every few seconds. Logged once for each cause; BLQ_LISTENING follows when it
    /// succeeds.
    ///
    /// Action: None, if the address appears later, as a virtual address does. Otherwise correct the address
    /// or port, stop the process that uses the port, or give kea-dhcp4 the capability for it.
    BLQ_LISTEN_FAILED,

    /// The initial load is complete: all leases of Kea's lease database are in the mirror. The text gives
    /// their number. Queries that waited are answered now.
    ///
    /// Action: None.
    BLQ_LOADED,

    /// An answer of Kea could not be read while it loaded the library, which refuses to load.
    ///
    /// Action: Report it, with the version of Kea.
    BLQ_LOAD_FAILED,

    /// A message without its own identifier.
    ///
    /// Action: Report it.
    BLQ_MESSAGE,

    /// Messages of the identifier in the text were not logged, because one of them about the same peer had been
    /// logged less than a minute before, and none came later. Further peers are those beyond the first 1,024 of
    /// a minute.
    ///
    /// Action: See the message of that identifier.
    BLQ_MESSAGES_OMITTED,

    /// A requester's message ended before the number of octets in its message-size (RFC 6926 section 6.1).
    /// The connection was closed. Logged at most once a minute for each requester.
    ///
    /// Action: Find the program at that address that connects to this port. If it is a requester, report it
    /// to its vendor.
    BLQ_MESSAGE_INCOMPLETE,

    /// A fault in this library (see BLQ_PANIC) ended the initial load, or interrupted a change of the mirror.
    /// The mirror is no longer reliable: each query ends with QueryTerminated, and the state file is not
    /// written. DHCP service continues.
    ///
    /// Action: Reload Kea's configuration (config-reload) or restart Kea, which loads the leases again.
    /// Report it with the text of BLQ_PANIC.
    BLQ_MIRROR_FAILED,

    /// A requester's message was a DHCPv4 message, but not a request of a type that is defined over TCP (RFC
    /// 7724 section 8.1.1), or a DHCPTLS that was not the first one. The connection was closed. Logged at most once a
    /// minute for each requester.
    ///
    /// Action: Find the program at that address that connects to this port. If it is a requester, report it
    /// to its vendor.
    BLQ_NOT_A_QUERY,

    /// A requester's message was not a DHCPv4 message. The connection was closed. Logged at most once a
    /// minute for each requester.
    ///
    /// Action: Find the program at that address that connects to this port. If it is a requester, report it
    /// to its vendor.
    BLQ_NOT_DHCP,

    /// Parameters for TLS were accepted, but TLS is off: connections are not encrypted, and no certificates are
    /// requested. The text names the parameters.
    ///
    /// Action: Configure TLS, or remove the parameters, and keep the connections inside a protected network or
    /// tunnel.
    BLQ_NOT_ENCRYPTED,

    /// 'advanced.bulk-query-enabled' is false: the server does not listen.
    ///
    /// Action: None, if that is intended.
    BLQ_NOT_LISTENING,

    /// The configuration in force cannot be served, most often after a new one was refused: no queries are
    /// answered. The hook tries again every few seconds.
    ///
    /// Action: Correct the error that the text and the message before it name.
    BLQ_NOT_SERVING,

    /// Kea's own lease query hook is loaded, too, and answers queries over UDP, or listens on the same TCP port. The text
    /// names the queries that this library leaves to it.
    ///
    /// Action: To have this library answer them, remove the other library from 'hooks-libraries'. To leave them to it
    /// without this warning, set the parameter in the text to false.
    BLQ_OTHER_HOOK,

    /// A fault in this library. It was contained, and Kea continues. Logged once for each place in the code.
    ///
    /// Action: Report it with the text. A reconfiguration restarts the library.
    BLQ_PANIC,

    /// A parameter of Kea's own lease query hook was accepted, but has no effect here.
    ///
    /// Action: None, or remove the parameter.
    BLQ_PARAMETER_NO_EFFECT,

    /// The state of Kea's high-availability library could not be queried (debug level).
    ///
    /// Action: None.
    BLQ_PARTNER_UNKNOWN,

    /// The new configuration was refused, and the previous one is in force again.
    ///
    /// Action: Correct the new configuration; the message before names the error.
    BLQ_PREVIOUS_CONFIGURATION,

    /// The connection of a query ended before its answer: the requester closed it, read nothing for
    /// 'advanced.max-requester-idle-time', or used an xid twice (debug level). The text has the query, the
    /// bindings and octets written so far, and the seconds since the query was read.
    ///
    /// Action: None. If it recurs with one requester, look for the fault there.
    BLQ_QUERY_ABANDONED,

    /// A query was answered (debug level). The text has the query and its qualifiers, the number of bindings, the
    /// octets of the answer, the seconds from the query to its DHCPLEASEQUERYDONE, the status, the xid and the
    /// peer.
    ///
    /// Action: None.
    BLQ_QUERY_ANSWERED,

    /// A query was answered with status MalformedQuery; the text names the wrong field. Logged at most once a
    /// minute for each requester; further ones are logged at debug level.
    ///
    /// Action: Report it to the requester's vendor.
    BLQ_QUERY_MALFORMED,

    /// A query was answered with status NotAllowed; the text gives the reason. Logged at most once a minute
    /// for each requester; further ones are logged at debug level.
    ///
    /// Action: Add the query type to the requester's 'query-types' if the requester may use it. Report a second
    /// query on the connection of an active one (RFC 7724 section 8.3) to the requester's vendor.
    BLQ_QUERY_NOT_ALLOWED,

    /// A query ended with status QueryTerminated; the text gives the reason: a reconfiguration, the end of the
    /// server, the command blq4-disconnect, or a failure. Logged at most once a minute for each requester;
    /// further ones are logged at debug level.
    ///
    /// Action: None. The requester sends the query again (RFC 6926 section 7.1).
    BLQ_QUERY_TERMINATED,

    /// The file with the name of the state file and '.recent' belongs to another program, and is left as it
    /// is. The state file is used without it: changes of the last second before Kea is killed may be missing
    /// from later delta queries.
    ///
    /// Action: Move the other file away, and reconfigure.
    BLQ_RECENT_FOREIGN,

    /// The file of recent changes, '.recent' beside the state file, cannot be opened or written. The state
    /// file is used without it: changes of the last second before Kea is killed may be missing from later
    /// delta queries.
    ///
    /// Action: Make the file writable for Kea, and reconfigure.
    BLQ_RECENT_UNAVAILABLE,

    /// 'requesters' admits every address.
    ///
    /// Action: Make sure that only hosts that may learn every binding can connect.
    BLQ_REQUESTER_ANYONE,

    /// A connection was closed because its entry of 'requesters' has as many open as its 'max-connections'
    /// allows. Logged at most once a minute for each address.
    ///
    /// Action: Raise the entry's 'max-connections'.
    BLQ_REQUESTER_LIMIT,

    /// No peer will match an entry of 'requesters'; the text has the reason.
    ///
    /// Action: Correct the entry, or remove it.
    BLQ_REQUESTER_NEVER,

    /// A peer that is not in 'requesters' connected, and the connection was closed. Logged at most once a
    /// minute for each address.
    ///
    /// Action: Add the address to 'requesters' if it is a requester's.
    BLQ_REQUESTER_REFUSED,

    /// Host reservations cannot be read from their database. Until they can be read, the addresses that they
    /// reserve are missing from the configured addresses. The hook tries again every few seconds.
    ///
    /// Action: Look for messages about the hosts database.
    BLQ_RESERVATIONS_UNREADABLE,

    /// A resync is complete: the mirror was compared with all leases of Kea's lease database (debug level).
    ///
    /// Action: None.
    BLQ_RESYNCED,

    /// The lease database could not be read for a resync. Changes of leases by other servers are not seen
    /// until it can be read.
    ///
    /// Action: Look for messages about the lease database.
    BLQ_RESYNC_FAILED,

    /// The lease database can be read again after BLQ_RESYNC_FAILED.
    ///
    /// Action: None.
    BLQ_RESYNC_RESUMED,

    /// A resync takes longer than 'advanced.reconciliation-interval', so changes by other servers may be seen
    /// later than the interval. Logged once.
    ///
    /// Action: None, if the delay is acceptable; otherwise look for a slow database.
    BLQ_RESYNC_SLOW,

    /// The server's threads, or their event loops, cannot be started. DHCP service continues, and the server
    /// tries again every few seconds; BLQ_LISTENING follows when it succeeds.
    ///
    /// Action: Look for the shortage that the text names: memory, descriptors or threads.
    BLQ_SERVER_NOT_STARTED,

    /// The state file belongs to this library, but its octets differ from those written. It was renamed, and
    /// a new one begun: states and times of bindings are those known to Kea's lease database and the mirror.
    ///
    /// Action: Look for disk errors.
    BLQ_STATE_DAMAGED,

    /// The file that 'state-file' names belongs to another program, or is not a regular file; it stays
    /// unchanged. Queries are answered, and the hook tries again; until it succeeds, facts that Kea does not
    /// keep are not saved.
    ///
    /// Action: Move the other file away, or name another one in 'state-file'.
    BLQ_STATE_FOREIGN,

    /// The state file has grown to more than twice the octets it needs, and could not be compacted, that is,
    /// written anew to a second file that replaces it. The state file stays in use, and the compaction is
    /// tried again when the file has grown by half.
    ///
    /// Action: Make the directory of the state file writable for Kea, and make room for a copy of the file.
    BLQ_STATE_NOT_COMPACTED,

    /// The state file cannot be continued: it is not the one that was written before, but another of this
    /// library's. It was renamed, and a new one begun: states and times of bindings are those known to Kea's
    /// lease database and the mirror.
    ///
    /// Action: None, if a server that used the same file has ended; otherwise find the program that replaced
    /// the file.
    BLQ_STATE_REPLACED,

    /// The state file cannot be opened. Queries are answered, and the hook tries again; until it succeeds,
    /// facts that Kea does not keep are not saved.
    ///
    /// Action: Make the file and its directory writable for Kea, or name another file in 'state-file'.
    BLQ_STATE_UNAVAILABLE,

    /// The state file was written by another version of this library, with another layout. It was renamed,
    /// and a new one begun: states and times of bindings are those known to Kea's lease database and the
    /// mirror.
    ///
    /// Action: None. If that version is installed again, its file can be restored, too.
    BLQ_STATE_VERSION,

    /// A flush to the state file failed. It is tried again, unless Kea is ending.
    ///
    /// Action: Look for a full or failing disk, or for the cause of the file's removal.
    BLQ_STATE_WRITE_FAILED,

    /// The state file can be written again after BLQ_STATE_WRITE_FAILED or BLQ_STATE_UNAVAILABLE; it has all
    /// changes since.
    ///
    /// Action: None.
    BLQ_STATE_WRITTEN_AGAIN,

    /// A statistic could not be set; the text names it and the error. It is tried again each second. An error of
    /// the type means that another program has created a statistic of this name.
    ///
    /// Action: Remove the statistic (statistic-remove); otherwise report it, with the version of Kea.
    BLQ_STATISTICS_FAILED,

    /// The server stopped listening, at a reconfiguration or because Kea ends.
    ///
    /// Action: None.
    BLQ_STOPPED,

    /// The stream of changes to the requester of an active query (RFC 7724) ended: the requester closed the connection
    /// or read nothing for 'advanced.active-send-timeout', or the server ended it, at a reconfiguration or by the command
    /// blq4-disconnect (debug level). The text has the query, the status with its reason, the bindings and octets
    /// written, and the seconds since the query was read.
    ///
    /// Action: None. The requester sends the query again, from the time of the last message on.
    BLQ_STREAM_ENDED,

    /// The subnet id of a lease is that of a subnet that is not configured or does not contain its address,
    /// as after a renumbering of subnets. The subnet that contains the address decides its VPN, options and
    /// times. Logged for the first such lease of a configuration.
    ///
    /// Action: None, if it is intended; otherwise correct the "id" of the subnet.
    BLQ_SUBNET_CONTRADICTED,

    /// Kea's packet threads could not be paused, so a configuration that could not be served before is still
    /// not served. The hook tries again every few seconds.
    ///
    /// Action: Report it, with the version of Kea, and reload Kea's configuration.
    BLQ_THREADS_NOT_PAUSED,

    /// A configuration was refused, and Kea's packet threads could not be started again for the previous one:
    /// Kea may serve its clients slowly or not at all.
    ///
    /// Action: Correct the configuration and load it. Report it, with the version of Kea.
    BLQ_THREADS_NOT_RESTORED,

    /// Kea's packet threads were paused and could not be resumed: Kea may not serve its clients.
    ///
    /// Action: Restart Kea. Report it, with the version of Kea.
    BLQ_THREADS_NOT_RESUMED,

    /// Kea's main loop could not be made to stop watching the hook's timer.
    ///
    /// Action: Report it, with the version of Kea.
    BLQ_TICKS_NOT_STOPPED,

    /// The certificate of the server, or an intermediate one in 'advanced.cert-file', has ended or ends within 30
    /// days. Requesters refuse TLS connections to a server whose certificate has ended.
    ///
    /// Action: Renew the certificate, and reload the configuration: the files are read again then.
    BLQ_TLS_CERTIFICATE_ENDS,

    /// The time at which the next revocation list was to be issued has passed for a list in 'advanced.crl-file'.
    /// The list is still used, but does not have the certificates that were revoked since.
    ///
    /// Action: Replace the file by the current lists, and reload the configuration.
    BLQ_TLS_CRL_OBSOLETE,

    /// A requester started TLS by a DHCPTLS, but the handshake failed, and the connection was closed. The text has
    /// the reason, such as a certificate that has ended, that no authority in 'advanced.trust-anchor' issued, or
    /// that 'certificates' of the requester's entry does not list; the names and the SHA-256 of such a certificate
    /// are in the text. Logged at most once a minute for each address.
    ///
    /// Action: Correct the certificate of the requester, or the parameter.
    BLQ_TLS_FAILED,

    /// A requester asked for TLS by a DHCPTLS, and was answered with TLSConnectionRefused, because TLS is off.
    /// Logged at most once a minute for each address.
    ///
    /// Action: Configure 'advanced.trust-anchor', 'advanced.cert-file' and 'advanced.key-file', or a requester
    /// without TLS.
    BLQ_TLS_REFUSED,

    /// A requester sent a query without TLS, although 'advanced.tls' is "required", and the connection was closed.
    /// Logged at most once a minute for each address.
    ///
    /// Action: Configure TLS at the requester, or set 'advanced.tls' to "allowed".
    BLQ_TLS_REQUIRED,

    /// A connection was secured by TLS (debug level). The text has the version, and the first name of the
    /// requester's certificate, or its SHA-256.
    ///
    /// Action: None.
    BLQ_TLS_STARTED,

    /// A connection was closed because as many are open as 'advanced.max-requester-connections' allows.
    /// Logged at most once a minute for each address.
    ///
    /// Action: Raise 'advanced.max-requester-connections'.
    BLQ_TOO_MANY_CONNECTIONS,

    /// A query over UDP was answered (debug level). The text has the query, the xid, giaddr, the sender, the type of the
    /// reply, its octets, and the seconds that it took.
    ///
    /// Action: None.
    BLQ_UDP_ANSWERED,

    /// A query over UDP got no reply because it is malformed; the text names the field. Logged at most once a
    /// minute for each giaddr; further ones are logged at debug level.
    ///
    /// Action: Report it to the requester's vendor. ARRIS C4 needs `leasequery version rfc-4388`.
    BLQ_UDP_MALFORMED,

    /// A query over UDP got no reply because giaddr is not in 'requesters', or its entry does not allow the query
    /// type. Logged at most once a minute for each giaddr; further ones are logged at debug level.
    ///
    /// Action: Add the address, or the query type, to 'requesters' if it is a requester's.
    BLQ_UDP_NOT_ALLOWED,

    /// A query over UDP got no reply because it names another server (debug level).
    ///
    /// Action: None.
    BLQ_UDP_OTHER_SERVER,

    /// A query over UDP got no reply because giaddr has sent more than 'advanced.udp-rate-limit' queries a second.
    /// Logged at most once a minute for each giaddr; further ones are logged at debug level.
    ///
    /// Action: Raise 'advanced.udp-rate-limit' if the requester's rate is intended.
    BLQ_UDP_RATE_LIMIT,

    /// A query over UDP came from an address that is not in 'requesters', while its giaddr is. It was answered to
    /// giaddr. Logged once for each sender, of at most 256, as long as Kea runs.
    ///
    /// Action: Add the address if it is one of the requester's. Otherwise somebody makes this server send replies
    /// to the requester: filter the packets.
    BLQ_UDP_SOURCE,

    /// A query over UDP got no reply now; the text has the reason: leases are being loaded, the server is busy, the
    /// client has too many addresses for one message, or the reply could not be sent. Logged at most once a minute
    /// for each giaddr; further ones are logged at debug level.
    ///
    /// Action: None while leases are loaded: the requester asks again. Use Bulk Leasequery for clients with hundreds of
    /// addresses. If replies cannot be sent, look for the route to giaddr.
    BLQ_UDP_UNANSWERED,

    /// A part of Kea's configuration looks like the declaration of a VPN, and has no effect; the text names it. Its
    /// bindings are in the VPN of another declaration, or in the default one.
    ///
    /// Action: Declare VPNs in the user-context of subnets and shared networks, under the key 'vpn' in lower case.
    BLQ_VPN_IGNORED,

    /// A daemon other than kea-dhcp4 loaded the library, which refuses to load there.
    ///
    /// Action: Remove it from 'hooks-libraries' of that daemon.
    BLQ_WRONG_DAEMON,

    /// A requester used the transaction id of a query in progress on the same connection (RFC 6926 section
    /// 7.1); the connection was closed.
    ///
    /// Action: Report it to the requester's vendor.
    BLQ_XID_IN_USE,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Collects the identifiers in the sources under `directory`, without this file.
    fn used(directory: &Path, ids: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                used(&path, ids);
            } else if !path.ends_with("log/catalogue.rs") {
                let source = fs::read_to_string(&path).unwrap();
                // Tests may use invented identifiers.
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
    fn every_message_has_a_meaning_and_an_action() {
        for message in MESSAGES {
            let paragraphs: Vec<&str> = message.text.split("\n\n").map(str::trim).collect();
            let [meaning, action] = paragraphs[..] else {
                panic!("{} has other paragraphs", message.id);
            };
            assert!(!meaning.is_empty(), "{}", message.id);
            let action = action.strip_prefix("Action: ");
            assert!(
                action.is_some_and(|text| !text.is_empty()),
                "{}",
                message.id
            );
        }
    }

    #[test]
    fn messages_are_found_by_their_identifiers() {
        for message in MESSAGES {
            assert_eq!(find(message.id).map(|found| found.id), Some(message.id));
        }
        assert!(find("BLQ_NO_SUCH_MESSAGE").is_none());
    }
}
