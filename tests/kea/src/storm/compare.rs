//! Whether all the hook says is what Kea holds: address by address, query by query.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::Ipv4Addr;

use blq::{Primary, RelayAgentInformation, State};

use super::case::{Case, is_held};
use super::history::Touch;
use super::look::{Answer, Delta, Found, Look, Row, SavedView, Seen};
use super::world::OFFER_LIFETIME;

/// Something the hook says that is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The address it says it of.
    pub address: Option<Ipv4Addr>,
    /// What is wrong.
    pub claim: String,
}

/// What was known at the quiet moment before.
#[derive(Debug)]
pub struct Before {
    /// What the hook said.
    pub answer: Answer,
    /// Kea's leases.
    pub rows: BTreeMap<Ipv4Addr, Row>,
    /// What was configured.
    pub configured: SavedView,
}

/// What happened since then, and before.
#[derive(Debug, Default)]
pub struct Happened {
    /// What was done to addresses since.
    pub touches: HashMap<Ipv4Addr, Vec<Touch>>,
    /// Addresses that something was done to at any time.
    pub ever_touched: BTreeSet<Ipv4Addr>,
    /// Addresses touched shortly before the server was killed, and when it was.
    pub shaken: HashMap<Ipv4Addr, f64>,
    /// The option 82 last relayed for an address, where that is certain.
    pub relayed: HashMap<Ipv4Addr, Vec<u8>>,
    /// How often Kea was reconfigured or started since.
    pub reconfigurations: usize,
    /// When an address was seen to have come into a pool or a VPN, or to have left one.
    pub moved: HashMap<Ipv4Addr, u32>,
    /// Whether any configuration so far had Kea leave fresh leases as they are.
    pub ever_cached: bool,
    /// Whether Kea may have reserved what it offered.
    pub may_offer: bool,
}

/// Addresses that came into a pool, a subnet or a VPN between two looks, or left one.
pub fn moved(before: &Before, look: &Look) -> Vec<Ipv4Addr> {
    let now = &look.answers[1].seen;
    let vpn_differs = |address: &Ipv4Addr| {
        let vpn = |seen: Option<&Seen>| seen.map(|seen| seen.vpn.clone());
        vpn(now.get(address)) != vpn(before.answer.seen.get(address))
    };
    let differs = |address: &Ipv4Addr| {
        let [old, new] = [&before.configured, &look.configured];
        old.addresses.contains(address) != new.addresses.contains(address)
            || old.is_in_subnet(*address) != new.is_in_subnet(*address)
            || old.context(*address) != new.context(*address)
            || vpn_differs(address)
    };
    now.keys().copied().filter(differs).collect()
}

/// Compares one of a look's pairs of Kea's leases and the hook's answer, and all the rest.
pub fn compare(before: &Before, look: &Look, which: usize, happened: &Happened) -> Vec<Fault> {
    let rows = &look.rows[which];
    let answer = &look.answers[which];
    let mut faults = Vec::new();
    check_order("the answer", answer, &mut faults);
    let mut all: BTreeSet<Ipv4Addr> = look.configured.addresses.clone();
    all.extend(rows.keys());
    all.extend(answer.seen.keys());
    all.extend(before.answer.seen.keys());
    for address in all {
        let case = Case {
            address,
            row: rows.get(&address),
            row_before: before.rows.get(&address),
            seen: answer.seen.get(&address),
            seen_before: before.answer.seen.get(&address),
            configured: &look.configured,
            configured_before: &before.configured,
            base_before: before.answer.base,
            touches: happened.touches.get(&address).map_or(&[], Vec::as_slice),
            happened,
        };
        let result = case.check();
        faults.extend(result.err().map(|claim| fault(address, &claim)));
    }
    let stable = stable(look);
    check_unqualified(look, &stable, &mut faults);
    for delta in &look.deltas {
        check_delta(delta, &stable, happened, &mut faults);
    }
    let (start, end, answer) = &look.window;
    let bounds = (*start, *end);
    check_window(answer, bounds, &stable, happened, &mut faults);
    for found in &look.found {
        check_found(found, look, &stable, &mut faults);
    }
    faults
}

/// A fault of an address.
fn fault(address: Ipv4Addr, claim: &str) -> Fault {
    Fault {
        address: Some(address),
        claim: claim.to_owned(),
    }
}

/// What was the same at the beginning and at the end of a look.
type Stable<'a> = HashMap<Ipv4Addr, &'a Seen>;

/// What was the same at the beginning and at the end of a look.
fn stable(look: &Look) -> Stable<'_> {
    let [first, last] = &look.answers;
    let same = first.seen.iter().filter(|(address, seen)| {
        let then = last.seen.get(address);
        then.is_some_and(|then| then.change() == seen.change())
    });
    same.map(|(address, seen)| (*address, seen)).collect()
}

/// RFC 6926, section 8.2: an answer to a query without qualifiers is of the default VPN.
fn check_unqualified(look: &Look, stable: &Stable<'_>, faults: &mut Vec<Fault>) {
    for (address, seen) in stable {
        let told = look.unqualified.seen.get(address);
        if told.is_some() != seen.vpn.is_none() {
            faults.push(fault(
                *address,
                "in the default VPN, or told so, but not both",
            ));
        }
    }
    for address in look.unqualified.seen.keys() {
        if !look
            .answers
            .iter()
            .any(|answer| answer.seen.contains_key(address))
        {
            faults.push(fault(*address, "in the default VPN, but not in all VPNs"));
        }
    }
}

/// RFC 6926, section 8.2: what changed since an earlier answer, each address once, and nothing
/// else. A change may be dated a second before it was made: it is one if the earlier answer did
/// not tell of it.
fn check_delta(delta: &Delta, stable: &Stable<'_>, happened: &Happened, faults: &mut Vec<Fault>) {
    let Delta {
        label,
        then,
        answer,
    } = delta;
    let since = then.base;
    check_order(label, answer, faults);
    for (address, now) in stable {
        let then = then.seen.get(address);
        let is_another = then.is_none_or(|then| then.change() != now.change());
        let is_in = now.is_in(since, u32::MAX);
        // What was told in the very second it was made may be told again.
        let may = now.is_in(since - DELAY, u32::MAX);
        let was = || then.map_or("not configured".to_owned(), ToString::to_string);
        let claim = match answer.seen.get(address) {
            None if is_in => "changed, but missing".to_owned(),
            None if is_another => {
                format!("missing, though it was {}", was())
            }
            Some(_) if !is_another && !may && !happened.may_count_as_changed(*address, since) => {
                "did not change, but told".to_owned()
            }
            Some(told) if told.change() != now.change() => format!("told otherwise, {told},"),
            _ => continue,
        };
        faults.push(fault(
            *address,
            &format!("{claim} in {label} (since {since})"),
        ));
    }
}

impl Happened {
    /// Whether an address may count as changed though it is as it was: what changed just before a crash
    /// does, and what came into a pool, a subnet or a VPN, or left one.
    fn may_count_as_changed(&self, address: Ipv4Addr, since: u32) -> bool {
        let is_shaken = |at: &f64| *at >= f64::from(since) - f64::from(DELAY);
        self.has_moved(address, since) || self.shaken.get(&address).is_some_and(is_shaken)
    }

    /// Whether an address may have been configured anew.
    fn has_moved(&self, address: Ipv4Addr, since: u32) -> bool {
        self.moved.get(&address).is_some_and(|at| *at >= since)
    }
}

/// How much later than it is dated a change may be made, in seconds.
const DELAY: u32 = 2;

/// An answer with a start and an end has what changed between them.
fn check_window(
    answer: &Answer,
    (start, end): (u32, u32),
    stable: &Stable<'_>,
    happened: &Happened,
    faults: &mut Vec<Fault>,
) {
    let label = format!("query for {start}..{end}");
    check_order(&label, answer, faults);
    for (address, seen) in stable {
        let may = seen.is_in(start - DELAY, end) || happened.may_count_as_changed(*address, start);
        let must = seen.is_in(start, end - DELAY);
        let claim = match answer.seen.get(address) {
            None if must => "changed, but missing".to_owned(),
            Some(_) if !may => "did not change, but told".to_owned(),
            Some(told) if told.change() != seen.change() => format!("told otherwise, {told},"),
            _ => continue,
        };
        faults.push(fault(*address, &format!("{claim} in {label}")));
    }
}

/// Each address comes once, and in ascending order (the contract).
fn check_order(label: &str, answer: &Answer, faults: &mut Vec<Fault>) {
    for address in &answer.disorder {
        let claim = format!("told twice or out of order in {label}");
        faults.push(fault(*address, &claim));
    }
}

/// RFC 6926, section 8.2: a client's or relay's active bindings, all of them and no others.
fn check_found(found: &Found, look: &Look, stable: &Stable<'_>, faults: &mut Vec<Fault>) {
    let Found { primary, addresses } = found;
    for pair in addresses.windows(2) {
        if pair[0] >= pair[1] {
            faults.push(fault(
                pair[1],
                &format!("told twice or out of order by {primary:?}"),
            ));
        }
    }
    for (address, seen) in stable {
        let is_filed = seen.state == State::ACTIVE && is_of(primary, seen);
        if addresses.contains(address) != is_filed {
            let found = if is_filed { "not found" } else { "found" };
            faults.push(fault(*address, &format!("{found} by {primary:?}")));
        }
    }
    // Leases that are not among the configured addresses too.
    let [first, last] = &look.rows;
    for (address, row) in first {
        let end = look.answers[1].base + 1;
        let is_certain = last.get(address) == Some(row)
            && !look.answers[0].seen.contains_key(address)
            && (!is_held(row, look.answers[0].base) || is_held(row, end))
            && row.valid != OFFER_LIFETIME;
        let is_filed = row.state == 0 && is_held(row, end);
        let is_of_row = match primary {
            Primary::Mac { address, .. } => *address == row.identity.mac,
            Primary::ClientId(id) => *id == row.identity.client_id,
            _ => continue,
        };
        if is_certain && addresses.contains(address) != (is_filed && is_of_row) {
            let claim = format!("of a removed subnet: found or not by {primary:?}");
            faults.push(fault(*address, &claim));
        }
    }
}

/// Whether a binding is one of those a primary query is for.
fn is_of(primary: &Primary, seen: &Seen) -> bool {
    let relay = || RelayAgentInformation::decode(&seen.option_82);
    match primary {
        Primary::Mac { address, .. } => *address == seen.identity.mac,
        Primary::ClientId(id) => *id == seen.identity.client_id,
        Primary::RemoteId(id) => relay().remote_id() == Some(id),
        Primary::RelayId(id) => relay().relay_id() == Some(id),
        Primary::All => true,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address}: {}", self.claim),
            None => f.write_str(&self.claim),
        }
    }
}
