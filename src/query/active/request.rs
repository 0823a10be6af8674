//! Checking a DHCPACTIVELEASEQUERY (RFC 7724 sections 7.3 and 8.2).

use std::fmt;

use proto::option::code;

use crate::model::time::Time;
use crate::model::vpn::{Vpn, VpnSelector};
use crate::query::request::{Received, Refusal, refuse_addresses, start_time, vpn_selector};
use crate::query::{QueryType, QueryTypes};

/// A valid DHCPACTIVELEASEQUERY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// query-start-time: the changes from this time on are sent first, the catch-up; `None` for later changes only.
    pub start: Option<Time>,
    /// The VPNs selected by the VPN-ID.
    pub vpn: VpnSelector,
}

/// The query and its qualifiers, for the log.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("changes")?;
        if let Some(start) = self.start {
            write!(f, ", query-start-time {start}")?;
        }
        match &self.vpn {
            VpnSelector::One(Vpn::Default) => Ok(()),
            VpnSelector::One(vpn) => write!(f, ", VPN-ID {vpn}"),
            VpnSelector::All => f.write_str(", VPN-ID all"),
        }
    }
}

/// Reads a DHCPACTIVELEASEQUERY of a requester that may use the `allowed` query types.
///
/// # Errors
/// A fault of the query, or a query that is not allowed. Either ends the connection (RFC 7724 section 8.2).
pub fn read(received: &Received<'_>, allowed: QueryTypes) -> Result<Query, Refusal> {
    if let Some(fault) = received.fault {
        return Err(Refusal::Broken(fault));
    }
    let message = &received.message;
    refuse_addresses(message)?;
    // Beside an address of zeros, htype and hlen are no query: some requesters set them in every message.
    if message.chaddr.iter().any(|octet| *octet != 0) {
        return Err(Refusal::NotInActive("chaddr"));
    }
    for (option, field) in [
        (code::CLIENT_IDENTIFIER, "client-identifier"),
        (code::QUERY_END_TIME, "query-end-time"),
    ] {
        if message.options.get(option).is_some() {
            return Err(Refusal::NotInActive(field));
        }
    }
    let start = start_time(message)?;
    let vpn = vpn_selector(message)?;
    // To ignore it would send the bindings of all relay agents to a requester that wants those of one.
    if message.options.get(code::RELAY_AGENT_INFORMATION).is_some() {
        return Err(Refusal::ActiveOfRelayAgent);
    }
    if !allowed.contains(QueryType::Active) {
        return Err(Refusal::NotPermitted(QueryType::Active));
    }
    Ok(Query { start, vpn })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proto::message::{BOOTREQUEST, HEADER_LENGTH, MAGIC_COOKIE};
    use proto::{MessageType, StatusCode};

    use super::*;
    use crate::query::request::Unanswerable;

    /// Returns a query with these octets after its type.
    fn query(options: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; HEADER_LENGTH - MAGIC_COOKIE.len()];
        octets[0] = BOOTREQUEST;
        octets.extend(MAGIC_COOKIE);
        octets.extend([code::MESSAGE_TYPE, 1, MessageType::ACTIVE_LEASE_QUERY.0]);
        octets.extend(options);
        octets
    }

    /// Reads octets as a query of a requester with all rights.
    fn read_octets(octets: &[u8]) -> Result<Result<Query, Refusal>, Unanswerable> {
        Ok(read(&Received::read(octets)?, QueryTypes::ALL))
    }

    /// Returns the status and the text with which a query is refused.
    fn refusal(octets: &[u8]) -> (StatusCode, String) {
        let refusal = read_octets(octets).unwrap().unwrap_err();
        (refusal.status(), refusal.to_string())
    }

    #[test]
    fn reads_the_qualifiers() {
        // RFC 7724 section 7.3.
        let default = VpnSelector::One(Vpn::Default);
        for (options, start, vpn, text) in [
            (&[][..], None, default.clone(), "changes"),
            (
                &[154, 4, 0, 0, 1, 2, 255],
                Some(Time(258)),
                default.clone(),
                "changes, query-start-time 258",
            ),
            // Options that are no qualifiers: the parameter request list, the client's name.
            (&[55, 2, 51, 82, 12, 1, 65], None, default, "changes"),
            (
                &[221, 1, 254, 154, 4, 0, 0, 0, 0],
                Some(Time(0)),
                VpnSelector::All,
                "changes, query-start-time 0, VPN-ID all",
            ),
            (
                &[221, 5, 0, 98, 108, 117, 101],
                None,
                VpnSelector::One(Vpn::Name("blue".into())),
                "changes, VPN-ID \"blue\"",
            ),
        ] {
            let query = read_octets(&query(options)).unwrap().unwrap();
            assert_eq!((query.start, &query.vpn), (start, &vpn));
            assert_eq!(query.to_string(), text);
        }
    }

    #[test]
    fn htype_and_hlen_beside_an_address_of_zeros_count_as_none() {
        for (htype, hlen) in [(1, 6), (1, 0), (0, 6), (255, 255)] {
            let mut octets = query(&[]);
            (octets[1], octets[2]) = (htype, hlen);
            assert!(read_octets(&octets).unwrap().is_ok(), "{htype} {hlen}");
        }
    }

    #[test]
    fn refuses_what_a_query_must_not_have_and_names_the_field() {
        // RFC 7724 sections 7.3 and 8.2.
        let in_header = |offset: usize| {
            let mut octets = query(&[]);
            octets[offset] = 1;
            octets
        };
        let with = |options: &[u8]| query(options);
        for (octets, field) in [
            (in_header(15), "ciaddr"),
            (in_header(19), "yiaddr"),
            (in_header(23), "siaddr"),
            // With hlen 0, and in octets that hlen would not count.
            (in_header(28), "chaddr"),
            (in_header(43), "chaddr"),
            (with(&[61, 2, 1, 2]), "client-identifier"),
            (with(&[61, 0]), "client-identifier"),
            (with(&[155, 4, 0, 0, 0, 9]), "query-end-time"),
            (with(&[155, 1, 9]), "query-end-time"),
            (with(&[154, 3, 0, 0, 9]), "query-start-time"),
            (
                with(&[154, 4, 0, 0, 0, 9, 154, 4, 0, 0, 0, 9]),
                "query-start-time",
            ),
            (with(&[221, 0]), "VPN-ID"),
            (with(&[221, 1, 7]), "VPN-ID"),
            (with(&[221, 1, 255, 221, 1, 255]), "VPN-ID"),
            (with(&[12, 9, 1]), "option 12"),
            (with(&[52, 1, 9]), "option-overload"),
        ] {
            let (status, text) = refusal(&octets);
            assert_eq!(status, StatusCode::MALFORMED_QUERY, "{text}");
            assert!(text.contains(field), "{text} names {field}");
        }
    }

    #[test]
    fn a_query_with_option_82_is_not_allowed() {
        for option in [&[82, 3, 2, 1, 7][..], &[82, 0], &[82, 3, 2, 9, 7]] {
            let (status, text) = refusal(&query(option));
            assert_eq!(status, StatusCode::NOT_ALLOWED);
            assert!(text.contains("relay-agent-information"), "{text}");
        }
    }

    #[test]
    fn a_requester_needs_the_query_type_active() {
        let octets = query(&[]);
        let received = Received::read(&octets).unwrap();
        let others = QueryType::ALL.into_iter();
        let others = others.filter(|query_type| *query_type != QueryType::Active);
        let others = others.fold(QueryTypes::NONE, QueryTypes::with);
        let refusal = read(&received, others).unwrap_err();
        assert_eq!(refusal.status(), StatusCode::NOT_ALLOWED);
        assert!(refusal.to_string().contains("active"), "{refusal}");
        let own = QueryTypes::NONE.with(QueryType::Active);
        assert!(read(&received, own).is_ok());
    }

    proptest! {
        /// Any octets are read without a panic.
        #[test]
        fn any_octets_are_read(octets in vec(any::<u8>(), 0..400)) {
            let _ = read_octets(&octets);
        }

        /// Any octets after the type are a query or its refusal; a query has no forbidden option.
        #[test]
        fn any_options_are_a_query_or_its_refusal(
            fields in vec(prop_oneof![20 => Just(0u8), 1 => any::<u8>()], 40),
            options in vec(
                prop_oneof![
                    3 => (
                        proptest::sample::select(vec![12_u8, 52, 55, 61, 82, 154, 155, 221]),
                        vec(0..4u8, 0..6),
                    ).prop_map(|(code, value)| [&[code, value.len() as u8], &value[..]].concat()),
                    1 => vec(any::<u8>(), 0..5),
                ],
                0..5,
            ),
        ) {
            let mut octets = query(&options.concat());
            octets[4..44].copy_from_slice(&fields);
            match read_octets(&octets) {
                Ok(Ok(_)) => {
                    let received = Received::read(&octets).unwrap();
                    let options = &received.message.options;
                    prop_assert!(received.fault.is_none());
                    for forbidden in [61, 82, 155] {
                        prop_assert!(options.get(forbidden).is_none());
                    }
                    prop_assert!(octets[12..24].iter().chain(&octets[28..44]).all(|octet| *octet == 0));
                }
                Ok(Err(refusal)) => prop_assert!(!refusal.to_string().is_empty()),
                // Only a second message type.
                Err(why) => prop_assert!(why == Unanswerable::NoMessageType, "{why}"),
            }
        }
    }
}
