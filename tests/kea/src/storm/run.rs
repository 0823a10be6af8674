//! The course of a storm: rounds, with an observation after each.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::compare::{Activity, Before, Fault, compare, moved};
use super::history::{History, Touch, TouchKind, now};
use super::observation::{Answer, KeaLease, Observation, QueryFailure, query_all};
use super::plan::{Plan, Round, ServerAction};
use super::random::Random;
use super::server_actions::{Administrator, Effects};
use super::topology::{Topology, Variant};
use super::traffic::Traffic;
use super::{Options, Summary};
use crate::copy::{Copy, active_query};
use crate::{Kea, PATIENCE, Setup, eventually_some};

/// Number of observations before a fault counts. With several threads the server may still process
/// messages after its last answer. Repetitions are counted.
const MAX_OBSERVATIONS: usize = 8;

/// The interval between these observations.
const OBSERVATION_INTERVAL: Duration = Duration::from_millis(250);

/// Longer than the half second within which a change is in the state file (the contract).
const SAVE_TIME: Duration = Duration::from_millis(700);

/// Number of earlier answers kept for delta queries.
const MAX_EARLIER_ANSWERS: usize = 40;

/// Number of requesters that keep a copy.
const ACTIVE_REQUESTERS: usize = 3;

/// Number of faults reported of each kind.
const REPORTED_FAULTS: usize = 2;

/// A running storm.
pub struct Storm {
    /// The parameters.
    options: Options,
    /// The server.
    kea: Kea,
    /// The subnets and relays.
    topology: Topology,
    /// The clients.
    traffic: Traffic,
    /// The previous observation.
    before: Before,
    /// The activity since then, and before.
    activity: Activity,
    /// The actions on addresses, for reports.
    history: History,
    /// Active requesters, the first from the beginning on, the others from later rounds on.
    copies: Vec<Copy>,
    /// Earlier answers with their descriptions.
    earlier: VecDeque<(String, Answer)>,
    /// The random sequence of the queries: it does not influence the actions.
    random: Random,
    /// The figures so far.
    summary: Summary,
}

impl Storm {
    /// Starts the server and makes the first observation.
    pub fn begin(options: Options) -> Result<Storm, String> {
        let setup = Setup::with_hook(json!({ "advanced": active_query() }))
            .kea_library("libdhcp_lease_cmds.so", json!({}))
            .multi_threading(options.multi_threading)
            .set("loggers", loggers());
        let place = setup.place;
        let topology = Topology::new(place, &options.without);
        let mut setup = topology.configure(setup, Variant::FIRST);
        if topology.has_network_commands {
            setup = setup
                .kea_library("libdhcp_subnet_cmds.so", json!({}))
                .kea_library("libdhcp_host_cmds.so", json!({}));
        }
        let kea = setup.start();
        let observation = Observation::take(&kea, Vec::new())?;
        Ok(Storm {
            traffic: Traffic::new(&topology, place, options.clients),
            random: Random::new(options.seed ^ 0xa5a5),
            options,
            kea,
            topology,
            before: Before::of(observation),
            activity: Activity::default(),
            copies: Vec::new(),
            history: History::default(),
            earlier: VecDeque::new(),
            summary: Summary::default(),
        })
    }

    /// Runs rounds until the time is over, or until the first fault.
    pub fn run(mut self, progress: &mut dyn FnMut(&str)) -> Result<Summary, String> {
        let started = Instant::now();
        let mut plan = Plan::new(self.options.seed, self.options.clients);
        let mut reported = Instant::now();
        while started.elapsed() < self.options.duration {
            let mut round = plan.round();
            let skipped = |action: &ServerAction| self.options.skips(*action);
            round.during.retain(|action| !skipped(action));
            round.after.retain(|action| !skipped(action));
            let result = self.round(&round);
            if let Err(failure) = result {
                if !self.options.continues {
                    return Err(format!("{failure}{}", self.log_excerpt()));
                }
                self.summary.failures += 1;
                progress(&failure);
            }
            self.summary.rounds += 1;
            if reported.elapsed() > Duration::from_secs(5) {
                reported = Instant::now();
                progress(&self.progress(started.elapsed()));
            }
        }
        progress(&self.progress(started.elapsed()));
        match self.summary.failures {
            0 => Ok(self.summary),
            failures => Err(format!("{failures} comparisons found faults")),
        }
    }

    /// Returns a line of text on the progress.
    fn progress(&self, elapsed: Duration) -> String {
        let Summary {
            rounds,
            observations,
            late,
            ..
        } = self.summary;
        let (answer, leases) = (&self.before.answer, &self.before.leases);
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for binding in answer.bindings.values() {
            *states.entry(binding.state.to_string()).or_default() += 1;
        }
        let states: Vec<_> = states
            .iter()
            .map(|(state, n)| format!("{n} {state}"))
            .collect();
        format!(
            "{:>4} s: {rounds} rounds, {} messages, {} answered, {observations} comparisons ({late} repeated); \
             {} leases in Kea; {} addresses: {}",
            elapsed.as_secs(),
            self.traffic.sent,
            self.traffic.answered,
            leases.len(),
            answer.bindings.len(),
            states.join(", "),
        )
    }

    /// Returns the latest warnings and errors of the server's log.
    fn log_excerpt(&self) -> String {
        let log = self.kea.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("ERROR") || line.contains("BLQ_"));
        let lines: Vec<_> = lines.collect();
        let last = lines.len().saturating_sub(30);
        format!(
            "  from the server's log:\n    {}\n",
            lines[last..].join("\n    ")
        )
    }

    /// Compares the copies of the active requesters with the hook's answers.
    fn compare_copies(&self, title: &str) -> Result<(), String> {
        let mut copies = self.copies.iter();
        let compared = copies.try_for_each(|copy| copy.compare(PATIENCE));
        compared.map_err(|differences| format!("{title}: {differences}\n"))
    }

    /// Runs one round.
    fn round(&mut self, round: &Round) -> Result<(), String> {
        if self.copies.len() < ACTIVE_REQUESTERS {
            self.copies
                .push(Copy::begin(self.kea.place().lease_query()));
        }
        let is_disruptive = round.during.iter().any(|action| action.is_disruptive());
        let (mut effects, answers) = self.run_concurrently(round, is_disruptive)?;
        self.earlier.extend(answers);
        if !self.kea.is_running() {
            return Err(format!(
                "round {}: kea-dhcp4 has ended:\n{}",
                round.number,
                self.kea.log()
            ));
        }
        await_listener(&self.kea);
        effects.touches.extend(self.traffic.settle());
        self.record_effects(round.number, &mut effects);
        let title = format!("round {}, during {:?}", round.number, round.during);
        let mut result = self.observe(&title);
        result = result.and_then(|()| self.compare_copies(&title));
        for action in &round.after {
            if result.is_err() && !self.options.continues {
                break;
            }
            thread::sleep(SAVE_TIME);
            let mut effects = Effects::default();
            let administrator = Administrator {
                topology: &self.topology,
                leases: &self.before.leases,
                clients: self.options.clients,
            };
            administrator.perform(&mut self.kea, *action, &mut effects);
            await_listener(&self.kea);
            // The state file was written before.
            effects.killed = None;
            self.record_effects(round.number, &mut effects);
            let title = format!("round {}, after {action:?}", round.number);
            let observed = self.observe(&title);
            let compared = self.compare_copies(&title);
            result = result.and(observed).and(compared);
        }
        result
    }

    /// Runs clients, administrator and requester concurrently. Returns the effects, and an answer
    /// received in that time.
    fn run_concurrently(
        &mut self,
        round: &Round,
        is_disruptive: bool,
    ) -> Result<(Effects, Vec<(String, Answer)>), String> {
        let administrator = Administrator {
            topology: &self.topology,
            leases: &self.before.leases,
            clients: self.options.clients,
        };
        let server = self.kea.place().lease_query();
        let kea = &mut self.kea;
        let width = self.options.width;
        let is_disturbed = AtomicBool::new(is_disruptive);
        let traffic = &mut self.traffic;
        let is_over = AtomicBool::new(false);
        let pause = Duration::from_millis(20 + 37 * u64::from(round.number % 7));
        let (touches, effects, queried) = thread::scope(|scope| {
            let performed = scope.spawn(|| {
                let _end = EndDisturbance(&is_disturbed);
                let mut effects = Effects::default();
                for action in &round.during {
                    thread::sleep(pause);
                    administrator.perform(kea, *action, &mut effects);
                }
                effects
            });
            let requester = scope.spawn(|| query_repeatedly(&is_over, server, is_disruptive));
            let touches = traffic.run(&round.actions, width, &is_disturbed);
            let effects = performed.join();
            is_over.store(true, Ordering::Relaxed);
            (touches, effects, requester.join())
        });
        let mut effects = effects.unwrap_or_else(|error| panic::resume_unwind(error));
        let queried = queried.unwrap_or_else(|error| panic::resume_unwind(error));
        effects.touches.extend(touches);
        let (count, query_all) = queried.map_err(|fault| {
            format!(
                "round {}, during {:?}: {fault}\n",
                round.number, round.during
            )
        })?;
        self.summary.queries += count;
        let label = format!(
            "query for changes since a query during round {}",
            round.number
        );
        Ok((
            effects,
            query_all
                .map(|answer| (label, answer))
                .into_iter()
                .collect(),
        ))
    }

    /// Derives the actions on each address and records them.
    fn record_effects(&mut self, round: u32, effects: &mut Effects) {
        let mut touches = std::mem::take(&mut effects.touches);
        touches.extend(self.consequences(&touches, effects));
        if let Some(killed) = effects.killed {
            let mut maybe_unsaved: Vec<_> = touches.iter().map(|touch| touch.address).collect();
            maybe_unsaved.sort();
            maybe_unsaved.dedup();
            touches.extend(maybe_unsaved.iter().map(|address| Touch {
                address: *address,
                at: killed,
                kind: TouchKind::MaybeUnsaved,
                step: "kill -9".to_owned(),
            }));
            let until = now();
            self.activity
                .maybe_unsaved
                .extend(maybe_unsaved.into_iter().map(|address| (address, until)));
        }
        self.history.remember(round, &touches);
        let activity = &mut self.activity;
        activity.reconfigurations = effects.reconfigurations;
        activity.ever_cached |= effects.variants.iter().any(|variant| variant.caches());
        activity.may_offer = self.topology.reserves_offers;
        activity.touches = HashMap::new();
        for touch in touches {
            // An offer that reserves nothing has no effect.
            if matches!(touch.kind, TouchKind::Offered(_)) && !activity.may_offer {
                continue;
            }
            activity.ever_touched.insert(touch.address);
            activity
                .touches
                .entry(touch.address)
                .or_default()
                .push(touch);
        }
        for (address, touches) in &activity.touches {
            match relayed(touches) {
                Some(Some(value)) => {
                    activity.relayed.insert(*address, value);
                }
                Some(None) => {}
                None => {
                    activity.relayed.remove(address);
                }
            }
        }
    }

    /// Returns the indirect effects on addresses: of actions on other addresses, on clients and on
    /// subnets.
    fn consequences(&self, touches: &[Touch], effects: &Effects) -> Vec<Touch> {
        let mut all = Vec::new();
        let mut add = |address: Ipv4Addr, at, kind, step: &str| {
            let step = step.to_owned();
            all.push(Touch {
                address,
                at,
                kind,
                step,
            });
        };
        // The clients with a lease before or during the round, by address.
        let mut holders: Vec<_> = self
            .before
            .leases
            .iter()
            .map(|(address, lease)| (*address, lease.identity.clone()))
            .collect();
        for touch in touches {
            match &touch.kind {
                TouchKind::Acknowledged(who, _)
                | TouchKind::Requested(who, _)
                | TouchKind::Offered(who)
                | TouchKind::Put(who) => {
                    holders.push((touch.address, who.clone()));
                }
                _ => {}
            }
        }
        for touch in touches {
            let who = match &touch.kind {
                TouchKind::Acknowledged(who, _) | TouchKind::Requested(who, _) => who,
                // If Kea reserves offers, an offer replaces the client's lease.
                TouchKind::Offered(who) if self.topology.reserves_offers => who,
                _ => continue,
            };
            for (address, holder) in &holders {
                if *address != touch.address && holder.may_be(who) {
                    add(
                        *address,
                        touch.at,
                        TouchKind::GivenUp(holder.clone()),
                        &touch.step,
                    );
                }
            }
        }
        for removal in &effects.removals {
            let range = self.before.configured.subnets.get(&removal.subnet);
            for (address, holder) in &holders {
                let is_there = self.before.leases.get(address).map_or_else(
                    || range.is_none_or(|(first, last)| (*first..=*last).contains(address)),
                    |lease| lease.subnet == removal.subnet,
                );
                let is_meant = removal
                    .identity
                    .as_ref()
                    .is_none_or(|who| holder.may_be(who));
                if is_there && is_meant {
                    let kind = TouchKind::Deleted(removal.command);
                    add(*address, removal.at, kind, removal.command);
                }
            }
        }
        all
    }

    /// Observes and compares, again while there are faults.
    fn observe(&mut self, title: &str) -> Result<(), String> {
        let since = self.earlier_answers();
        let mut faults = Vec::new();
        let mut observations = 0;
        let most = if self.options.multi_threading {
            MAX_OBSERVATIONS
        } else {
            1
        };
        let (observation, persistent) = loop {
            observations += 1;
            let observation = Observation::take(&self.kea, since.clone())
                .map_err(|error| format!("{title}: {error}"))?;
            self.summary.observations += 1;
            self.record_moved(&observation);
            // Kea may reclaim leases during an observation: one of the two pairs is consistent.
            let found =
                [0, 1].map(|which| compare(&self.before, &observation, which, &self.activity));
            let is_right = found.iter().any(Vec::is_empty);
            let [_, found] = found;
            if observations == 1 || observations == most {
                faults = found;
            }
            if is_right || observations == most {
                break (observation, !is_right);
            }
            thread::sleep(OBSERVATION_INTERVAL);
        };
        let mut result = Ok(());
        if persistent {
            result = Err(self.report(title, &faults, &observation));
        } else if observations > 1 {
            self.summary.late += 1;
            if self.options.reports_late {
                eprintln!(
                    "not confirmed, {}",
                    self.report(title, &faults, &observation)
                );
            }
        }
        self.earlier.push_back((
            format!("query for changes since {title}"),
            observation.answers[0].clone(),
        ));
        while self.earlier.len() > MAX_EARLIER_ANSWERS {
            let oldest = self.random.below(self.earlier.len() / 2);
            self.earlier.remove(oldest);
        }
        self.before = Before::of(observation);
        self.activity.touches.clear();
        result
    }

    /// Records the addresses that a reconfiguration moved; after several reconfigurations, all
    /// addresses.
    fn record_moved(&mut self, observation: &Observation) {
        let moved = match self.activity.reconfigurations {
            0 => return,
            1 => moved(&self.before, observation),
            _ => observation.answers[1].bindings.keys().copied().collect(),
        };
        let at = observation.answers[1].base;
        let moved = moved.into_iter().map(|address| (address, at));
        self.activity.moved.extend(moved);
    }

    /// Returns the latest answers, and one of the older ones.
    fn earlier_answers(&mut self) -> Vec<(String, Answer)> {
        let mut since: Vec<_> = self.earlier.iter().rev().take(2).cloned().collect();
        if !self.earlier.is_empty() {
            let old = self.random.below(self.earlier.len());
            since.push(self.earlier[old].clone());
        }
        since
    }

    /// Returns a report of faults: Kea's values, the hook's values, and the actions.
    fn report(&self, title: &str, faults: &[Fault], observation: &Observation) -> String {
        let mut text = format!("{title}: {} faults\n", faults.len());
        let show = |thing: Option<String>| thing.unwrap_or_else(|| "nothing".to_owned());
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for fault in faults {
            // The rest of the claim is specific to the address or the query.
            let kind: String = fault.claim.chars().take(32).collect();
            let kind = kind.replace(|c: char| c.is_ascii_digit(), "");
            let reported = kinds.entry(kind).or_default();
            *reported += 1;
            if *reported > REPORTED_FAULTS {
                continue;
            }
            text += &format!("  {fault}\n");
            let Some(address) = &fault.address else {
                continue;
            };
            let lease =
                |leases: &BTreeMap<Ipv4Addr, _>| show(leases.get(address).map(KeaLease::to_string));
            let binding =
                |answer: &Answer| show(answer.bindings.get(address).map(ToString::to_string));
            text += &format!("    Kea before:  {}\n", lease(&self.before.leases));
            text += &format!("    Kea now:     {}\n", lease(&observation.leases[1]));
            text += &format!("    hook before: {}\n", binding(&self.before.answer));
            text += &format!("    hook now:    {}\n", binding(&observation.answers[1]));
            text += &self.history.of(*address);
        }
        for (kind, count) in kinds.iter().filter(|(_, count)| **count > REPORTED_FAULTS) {
            text += &format!("  {count} like this: {kind} ...\n");
        }
        text
    }
}

impl Before {
    /// Keeps the part of an observation that the next comparison needs.
    fn of(observation: Observation) -> Self {
        let [_, answer] = observation.answers;
        let [_, leases] = observation.leases;
        Before {
            answer,
            leases,
            configured: observation.configured,
        }
    }
}

/// Ends a disturbance when dropped, also by a panic, since clients wait for its end.
struct EndDisturbance<'a>(&'a AtomicBool);

impl Drop for EndDisturbance<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl ServerAction {
    /// Whether the action may interrupt queries and lose messages.
    fn is_disruptive(self) -> bool {
        matches!(
            self,
            ServerAction::Reload(_)
                | ServerAction::ReloadSame
                | ServerAction::ConfigSet(_)
                | ServerAction::HangUp(_)
                | ServerAction::Refused(_)
                | ServerAction::Restart
                | ServerAction::Kill
        )
    }
}

/// Queries all addresses repeatedly until `is_over`. Returns the number of queries and the last
/// answer.
fn query_repeatedly(
    is_over: &AtomicBool,
    server: SocketAddrV4,
    is_disruptive: bool,
) -> Result<(u64, Option<Answer>), String> {
    let (mut count, mut last) = (0, None);
    while !is_over.load(Ordering::Relaxed) {
        match query_all(server) {
            Ok(answer) => {
                if let Some(address) = answer.out_of_order.first() {
                    return Err(format!("{address} is reported twice or out of order"));
                }
                count += 1;
                last = Some(answer);
            }
            Err(_) if is_disruptive => {}
            Err(QueryFailure::Terminated) => return Err("a query was terminated".to_owned()),
            Err(QueryFailure::Error(error)) => return Err(format!("a query failed: {error}")),
        }
        thread::sleep(Duration::from_millis(30));
    }
    Ok((count, last))
}

/// Waits until the hook answers queries.
fn await_listener(kea: &Kea) {
    eventually_some("the hook's listener", || {
        query_all(kea.place().lease_query()).ok()
    });
}

/// Returns the option 82 last relayed for an address; the inner `None` if it did not change, the
/// outer `None` if that is not certain.
fn relayed(touches: &[Touch]) -> Option<Option<Vec<u8>>> {
    let mut value: Option<&Vec<u8>> = None;
    let mut client = None;
    for touch in touches {
        match &touch.kind {
            TouchKind::Acknowledged(who, relayed) => {
                if client.is_some_and(|client| client != who) {
                    return None;
                }
                client = Some(who);
                let relayed = relayed.as_ref()?;
                if relayed.is_empty() || value.is_some_and(|value| value != relayed) {
                    return None;
                }
                value = Some(relayed);
            }
            TouchKind::Offered(_) => {}
            _ => return None,
        }
    }
    Some(value.cloned())
}

/// Returns loggers with little output, since storms are long.
fn loggers() -> serde_json::Value {
    let to = json!([{ "output": "stdout" }]);
    json!([
        { "name": "kea-dhcp4", "severity": "WARN", "output_options": to },
        { "name": "kea-dhcp4.dhcp4", "severity": "INFO", "output_options": to },
        { "name": "kea-dhcp4.leases", "severity": "ERROR", "output_options": to },
        { "name": "kea-dhcp4.packets", "severity": "ERROR", "output_options": to },
        { "name": "kea-dhcp4.alloc-engine", "severity": "ERROR", "output_options": to },
    ])
}
