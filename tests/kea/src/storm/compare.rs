//! The comparison of the hook's answers with Kea's leases, address by address and query by query.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::Ipv4Addr;

use blq::{Primary, RelayAgentInformation, State};

use super::address_check::{AddressCheck, is_held};
use super::history::Touch;
use super::observation::{
    Answer, ConfiguredAddresses, Delta, Found, HookBinding, KeaLease, Observation,
};
use super::topology::OFFER_LIFETIME;

/// A difference between the hook's answers and Kea's leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The address, if the fault is of one address.
    pub address: Option<Ipv4Addr>,
    /// A description of the fault.
    pub claim: String,
}

/// The previous observation.
#[derive(Debug)]
pub struct Before {
    /// The hook's answer.
    pub answer: Answer,
    /// Kea's leases.
    pub leases: BTreeMap<Ipv4Addr, KeaLease>,
    /// The configured addresses.
    pub configured: ConfiguredAddresses,
}

/// The activity since the previous observation, and before.
#[derive(Debug, Default)]
pub struct Activity {
    /// The actions on each address since the previous observation.
    pub touches: HashMap<Ipv4Addr, Vec<Touch>>,
    /// Addresses with actions at any time.
    pub ever_touched: BTreeSet<Ipv4Addr>,
    /// Addresses with actions shortly before the server was killed, with the time of the restart.
    pub maybe_unsaved: HashMap<Ipv4Addr, f64>,
    /// The option 82 last relayed for an address, where it is certain.
    pub relayed: HashMap<Ipv4Addr, Vec<u8>>,
    /// Number of reconfigurations and starts since the previous observation.
    pub reconfigurations: usize,
    /// The time at which an address was found to have entered or left a pool, a subnet or a VPN.
    pub moved: HashMap<Ipv4Addr, u32>,
    /// Whether any configuration so far enabled lease caching.
    pub ever_cached: bool,
    /// Whether Kea may have reserved offered addresses.
    pub may_offer: bool,
}

/// Returns the addresses that entered or left a pool, a subnet or a VPN between two observations.
pub fn moved(before: &Before, observation: &Observation) -> Vec<Ipv4Addr> {
    let now = &observation.answers[1].bindings;
    let vpn_differs = |address: &Ipv4Addr| {
        let vpn = |binding: Option<&HookBinding>| binding.map(|binding| binding.vpn.clone());
        vpn(now.get(address)) != vpn(before.answer.bindings.get(address))
    };
    let differs = |address: &Ipv4Addr| {
        let [old, new] = [&before.configured, &observation.configured];
        old.addresses.contains(address) != new.addresses.contains(address)
            || old.is_in_subnet(*address) != new.is_in_subnet(*address)
            || old.context(*address) != new.context(*address)
            || vpn_differs(address)
    };
    now.keys().copied().filter(differs).collect()
}

/// Compares one of the observation's pairs of Kea's leases and the hook's answer, and all other
/// queries.
pub fn compare(
    before: &Before,
    observation: &Observation,
    which: usize,
    activity: &Activity,
) -> Vec<Fault> {
    let leases = &observation.leases[which];
    let answer = &observation.answers[which];
    let mut faults = Vec::new();
    check_order("the answer", answer, &mut faults);
    let mut all: BTreeSet<Ipv4Addr> = observation.configured.addresses.clone();
    all.extend(leases.keys());
    all.extend(answer.bindings.keys());
    all.extend(before.answer.bindings.keys());
    for address in all {
        let address_check = AddressCheck {
            address,
            lease: leases.get(&address),
            lease_before: before.leases.get(&address),
            binding: answer.bindings.get(&address),
            binding_before: before.answer.bindings.get(&address),
            configured: &observation.configured,
            configured_before: &before.configured,
            base_before: before.answer.base,
            touches: activity.touches.get(&address).map_or(&[], Vec::as_slice),
            activity,
        };
        let result = address_check.check();
        faults.extend(result.err().map(|claim| fault(address, &claim)));
    }
    let stable = stable(observation);
    check_unqualified(observation, &stable, &mut faults);
    for delta in &observation.deltas {
        check_delta(delta, &stable, activity, &mut faults);
    }
    let (start, end, answer) = &observation.window;
    let bounds = (*start, *end);
    check_window(answer, bounds, &stable, activity, &mut faults);
    for found in &observation.found {
        check_found(found, observation, &stable, &mut faults);
    }
    faults
}

/// Returns a fault of an address.
fn fault(address: Ipv4Addr, claim: &str) -> Fault {
    Fault {
        address: Some(address),
        claim: claim.to_owned(),
    }
}

/// Bindings that are equal at the beginning and at the end of an observation.
type Stable<'a> = HashMap<Ipv4Addr, &'a HookBinding>;

/// Bindings that are equal at the beginning and at the end of an observation.
fn stable(observation: &Observation) -> Stable<'_> {
    let [first, last] = &observation.answers;
    let same = first.bindings.iter().filter(|(address, binding)| {
        let last = last.bindings.get(address);
        last.is_some_and(|last| last.change() == binding.change())
    });
    same.map(|(address, binding)| (*address, binding)).collect()
}

/// Checks the answer to a query without qualifiers: it covers the default VPN (RFC 6926, section
/// 8.2).
fn check_unqualified(observation: &Observation, stable: &Stable<'_>, faults: &mut Vec<Fault>) {
    for (address, binding) in stable {
        let reported = observation.unqualified.bindings.get(address);
        if reported.is_some() != binding.vpn.is_none() {
            faults.push(fault(
                *address,
                "in the default VPN or in its answer, but not in both",
            ));
        }
    }
    for address in observation.unqualified.bindings.keys() {
        if !observation
            .answers
            .iter()
            .any(|answer| answer.bindings.contains_key(address))
        {
            faults.push(fault(*address, "in the default VPN, but not in all VPNs"));
        }
    }
}

/// Checks a delta query: it returns each address that changed since the earlier answer once, and no
/// other address (RFC 6926, section 8.2). A change may carry a time up to two seconds before it was
/// made; it counts as a change if the earlier answer does not contain it.
fn check_delta(delta: &Delta, stable: &Stable<'_>, activity: &Activity, faults: &mut Vec<Fault>) {
    let Delta {
        label,
        earlier,
        answer,
    } = delta;
    let since = earlier.base;
    check_order(label, answer, faults);
    for (address, now) in stable {
        let earlier = earlier.bindings.get(address);
        let is_another = earlier.is_none_or(|earlier| earlier.change() != now.change());
        let is_in = now.is_in(since, u32::MAX);
        // A delta query may repeat an answer given within the second of the change.
        let may = now.is_in(since - DELAY, u32::MAX);
        let was = || earlier.map_or("not configured".to_owned(), ToString::to_string);
        let claim = match answer.bindings.get(address) {
            None if is_in => "changed, but missing".to_owned(),
            None if is_another => {
                format!("missing, though it was {}", was())
            }
            Some(_) if !is_another && !may && !activity.may_count_as_changed(*address, since) => {
                "did not change, but returned".to_owned()
            }
            Some(reported) if reported.change() != now.change() => {
                format!("returned as {reported},")
            }
            _ => continue,
        };
        faults.push(fault(
            *address,
            &format!("{claim} in {label} (since {since})"),
        ));
    }
}

impl Activity {
    /// Whether an address may count as changed though its binding is equal: addresses changed just
    /// before a crash do, and those that entered or left a pool, a subnet or a VPN.
    fn may_count_as_changed(&self, address: Ipv4Addr, since: u32) -> bool {
        let may_be_unsaved = |at: &f64| *at >= f64::from(since) - f64::from(DELAY);
        self.has_moved(address, since)
            || self.maybe_unsaved.get(&address).is_some_and(may_be_unsaved)
    }

    /// Whether an address may have entered or left a pool, a subnet or a VPN.
    fn has_moved(&self, address: Ipv4Addr, since: u32) -> bool {
        self.moved.get(&address).is_some_and(|at| *at >= since)
    }
}

/// The longest time between the recorded time of a change and the change, in seconds.
const DELAY: u32 = 2;

/// Checks a query with start and end: it returns the changes between them.
fn check_window(
    answer: &Answer,
    (start, end): (u32, u32),
    stable: &Stable<'_>,
    activity: &Activity,
    faults: &mut Vec<Fault>,
) {
    let label = format!("query for {start}..{end}");
    check_order(&label, answer, faults);
    for (address, binding) in stable {
        let may =
            binding.is_in(start - DELAY, end) || activity.may_count_as_changed(*address, start);
        let must = binding.is_in(start, end - DELAY);
        let claim = match answer.bindings.get(address) {
            None if must => "changed, but missing".to_owned(),
            Some(_) if !may => "did not change, but returned".to_owned(),
            Some(reported) if reported.change() != binding.change() => {
                format!("returned as {reported},")
            }
            _ => continue,
        };
        faults.push(fault(*address, &format!("{claim} in {label}")));
    }
}

/// Checks the contract's order: each address occurs once, in ascending order.
fn check_order(label: &str, answer: &Answer, faults: &mut Vec<Fault>) {
    for address in &answer.out_of_order {
        let claim = format!("returned twice or out of order in {label}");
        faults.push(fault(*address, &claim));
    }
}

/// Checks the query for a client's or relay agent's bindings: it returns all active ones and no
/// others (RFC 6926, section 8.2).
fn check_found(
    found: &Found,
    observation: &Observation,
    stable: &Stable<'_>,
    faults: &mut Vec<Fault>,
) {
    let Found { primary, addresses } = found;
    for pair in addresses.windows(2) {
        if pair[0] >= pair[1] {
            faults.push(fault(
                pair[1],
                &format!("returned twice or out of order by {primary:?}"),
            ));
        }
    }
    for (address, binding) in stable {
        let is_expected = binding.state == State::ACTIVE && is_of(primary, binding);
        if addresses.contains(address) != is_expected {
            let found = if is_expected { "not found" } else { "found" };
            faults.push(fault(*address, &format!("{found} by {primary:?}")));
        }
    }
    // Leases outside the configured addresses count too.
    let [first, last] = &observation.leases;
    for (address, lease) in first {
        let end = observation.answers[1].base + 1;
        let is_certain = last.get(address) == Some(lease)
            && !observation.answers[0].bindings.contains_key(address)
            && (!is_held(lease, observation.answers[0].base) || is_held(lease, end))
            && lease.valid != OFFER_LIFETIME;
        let is_expected = lease.state == 0 && is_held(lease, end);
        let is_of_row = match primary {
            Primary::Mac { address, .. } => *address == lease.identity.mac,
            Primary::ClientId(id) => *id == lease.identity.client_id,
            _ => continue,
        };
        if is_certain && addresses.contains(address) != (is_expected && is_of_row) {
            let claim = format!("of a removed subnet: found or not by {primary:?}");
            faults.push(fault(*address, &claim));
        }
    }
}

/// Whether a query matches a binding.
fn is_of(primary: &Primary, binding: &HookBinding) -> bool {
    let relay = || RelayAgentInformation::decode(&binding.option_82);
    match primary {
        Primary::Mac { address, .. } => *address == binding.identity.mac,
        Primary::ClientId(id) => *id == binding.identity.client_id,
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
