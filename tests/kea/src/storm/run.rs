//! The storm itself: rounds, and a look at everything after each.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::compare::{Before, Fault, Happened, compare, moved};
use super::deeds::{Doer, Effects};
use super::history::{History, Touch, What, now};
use super::look::{Answer, Ended, Look, glance};
use super::plan::{Deed, Plan, Round};
use super::random::Random;
use super::traffic::Traffic;
use super::world::{Variant, World};
use super::{Options, Summary};
use crate::{Kea, Setup, eventually_some};

/// How often everything is looked at before a fault counts: with several threads the server may
/// not have worked off everything when it has answered the last message. That it was needed is
/// counted.
const LOOKS: usize = 8;

/// How long between two of these looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// A change is on disk within half a second (the contract); this is more.
const SAVED_AFTER: Duration = Duration::from_millis(700);

/// How many earlier answers are kept to ask what changed since.
const KEPT_ANSWERS: usize = 40;

/// How many faults of a kind are told of.
const FAULTS_TOLD: usize = 2;

/// A storm going on.
pub struct Storm {
    /// What was asked for.
    options: Options,
    /// The server.
    kea: Kea,
    /// The network.
    world: World,
    /// The clients.
    traffic: Traffic,
    /// The quiet moment before.
    before: Before,
    /// What happened since, and before.
    happened: Happened,
    /// What was done to addresses, for people.
    history: History,
    /// Earlier answers, and what they are called.
    kept: VecDeque<(String, Answer)>,
    /// Which earlier answers to ask about, and the like: nothing that changes what is done.
    random: Random,
    /// What was done so far.
    summary: Summary,
}

impl Storm {
    /// Starts the server and looks at it for the first time.
    pub fn begin(options: Options) -> Result<Storm, String> {
        let setup = Setup::with_hook(json!({}))
            .kea_library("libdhcp_lease_cmds.so", json!({}))
            .multi_threading(options.multi_threading)
            .set("loggers", loggers());
        let place = setup.place;
        let world = World::new(place, &options.without);
        let mut setup = world.configure(setup, Variant::FIRST);
        if world.has_network_commands {
            setup = setup
                .kea_library("libdhcp_subnet_cmds.so", json!({}))
                .kea_library("libdhcp_host_cmds.so", json!({}));
        }
        let kea = setup.start();
        let look = Look::take(&kea, Vec::new())?;
        Ok(Storm {
            traffic: Traffic::new(&world, place, options.clients),
            random: Random::new(options.seed ^ 0xa5a5),
            options,
            kea,
            world,
            before: Before::of(look),
            happened: Happened::default(),
            history: History::default(),
            kept: VecDeque::new(),
            summary: Summary::default(),
        })
    }

    /// Goes on until the time is over, or until the first fault.
    pub fn run(mut self, progress: &mut dyn FnMut(&str)) -> Result<Summary, String> {
        let started = Instant::now();
        let mut plan = Plan::new(self.options.seed, self.options.clients);
        let mut told = Instant::now();
        while started.elapsed() < self.options.duration {
            let mut round = plan.round();
            let skipped = |deed: &Deed| self.options.skips(*deed);
            round.during.retain(|deed| !skipped(deed));
            round.after.retain(|deed| !skipped(deed));
            let result = self.round(&round);
            if let Err(failure) = result {
                if !self.options.goes_on {
                    return Err(format!("{failure}{}", self.trouble()));
                }
                self.summary.failures += 1;
                progress(&failure);
            }
            self.summary.rounds += 1;
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                progress(&self.progress(started.elapsed()));
            }
        }
        progress(&self.progress(started.elapsed()));
        match self.summary.failures {
            0 => Ok(self.summary),
            failures => Err(format!("{failures} looks found faults")),
        }
    }

    /// How far it is.
    fn progress(&self, elapsed: Duration) -> String {
        let Summary {
            rounds,
            looks,
            late,
            ..
        } = self.summary;
        let (answer, rows) = (&self.before.answer, &self.before.rows);
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for seen in answer.seen.values() {
            *states.entry(seen.state.to_string()).or_default() += 1;
        }
        let states: Vec<_> = states
            .iter()
            .map(|(state, n)| format!("{n} {state}"))
            .collect();
        format!(
            "{:>4} s: {rounds} rounds, {} messages, {} answered, {looks} looks ({late} again); \
             {} leases in Kea; {} addresses: {}",
            elapsed.as_secs(),
            self.traffic.sent,
            self.traffic.answered,
            rows.len(),
            answer.seen.len(),
            states.join(", "),
        )
    }

    /// Warnings and errors in the server's log.
    fn trouble(&self) -> String {
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

    /// One round.
    fn round(&mut self, round: &Round) -> Result<(), String> {
        let is_rough = round.during.iter().any(|deed| deed.is_rough());
        let (mut effects, glances) = self.blow(round, is_rough)?;
        self.kept.extend(glances);
        if !self.kea.is_running() {
            return Err(format!(
                "round {}: kea-dhcp4 has ended:\n{}",
                round.number,
                self.kea.log()
            ));
        }
        await_listener(&self.kea);
        effects.touches.extend(self.traffic.settle());
        self.take_over(round.number, &mut effects);
        let title = format!("round {}, meanwhile {:?}", round.number, round.during);
        let mut result = self.look(&title);
        for deed in &round.after {
            if result.is_err() && !self.options.goes_on {
                break;
            }
            thread::sleep(SAVED_AFTER);
            let mut effects = Effects::default();
            let doer = Doer {
                world: &self.world,
                rows: &self.before.rows,
                clients: self.options.clients,
            };
            doer.act(&mut self.kea, *deed, &mut effects);
            await_listener(&self.kea);
            // The state file was written in good time.
            effects.killed = None;
            self.take_over(round.number, &mut effects);
            let title = format!("round {}, then {deed:?}", round.number);
            let looked = self.look(&title);
            result = result.and(looked);
        }
        result
    }

    /// Clients, administrator and requestors, all at the same time. Gives the effects, and answers
    /// taken meanwhile.
    fn blow(
        &mut self,
        round: &Round,
        is_rough: bool,
    ) -> Result<(Effects, Vec<(String, Answer)>), String> {
        let doer = Doer {
            world: &self.world,
            rows: &self.before.rows,
            clients: self.options.clients,
        };
        let server = self.kea.place().lease_query();
        let kea = &mut self.kea;
        let width = self.options.width;
        let is_disturbed = AtomicBool::new(is_rough);
        let traffic = &mut self.traffic;
        let is_over = AtomicBool::new(false);
        let pause = Duration::from_millis(20 + 37 * u64::from(round.number % 7));
        let (touches, effects, queried) = thread::scope(|scope| {
            let administrator = scope.spawn(|| {
                let _calm = Calm(&is_disturbed);
                let mut effects = Effects::default();
                for deed in &round.during {
                    thread::sleep(pause);
                    doer.act(kea, *deed, &mut effects);
                }
                effects
            });
            let requestor = scope.spawn(|| query_until(&is_over, server, is_rough));
            let touches = traffic.run(&round.acts, width, &is_disturbed);
            let effects = administrator.join();
            is_over.store(true, Ordering::Relaxed);
            (touches, effects, requestor.join())
        });
        let mut effects = effects.unwrap_or_else(|error| panic::resume_unwind(error));
        let queried = queried.unwrap_or_else(|error| panic::resume_unwind(error));
        effects.touches.extend(touches);
        let (count, glance) = queried.map_err(|fault| {
            format!(
                "round {}, meanwhile {:?}: {fault}\n",
                round.number, round.during
            )
        })?;
        self.summary.queries += count;
        let label = format!(
            "query for changes since a busy moment in round {}",
            round.number
        );
        Ok((
            effects,
            glance.map(|answer| (label, answer)).into_iter().collect(),
        ))
    }

    /// Works out what was done to each address.
    fn take_over(&mut self, round: u32, effects: &mut Effects) {
        let mut touches = std::mem::take(&mut effects.touches);
        touches.extend(self.consequences(&touches, effects));
        if let Some(killed) = effects.killed {
            let mut shaken: Vec<_> = touches.iter().map(|touch| touch.address).collect();
            shaken.sort();
            shaken.dedup();
            touches.extend(shaken.iter().map(|address| Touch {
                address: *address,
                at: killed,
                what: What::Shaken,
                step: "kill -9".to_owned(),
            }));
            let until = now();
            self.happened
                .shaken
                .extend(shaken.into_iter().map(|address| (address, until)));
        }
        self.history.remember(round, &touches);
        let happened = &mut self.happened;
        happened.reconfigurations = effects.reconfigurations;
        happened.ever_cached |= effects.variants.iter().any(|variant| variant.caches());
        happened.may_offer = self.world.reserves_offers;
        happened.touches = HashMap::new();
        for touch in touches {
            // An offer that reserves nothing changes nothing.
            if matches!(touch.what, What::Offered(_)) && !happened.may_offer {
                continue;
            }
            happened.ever_touched.insert(touch.address);
            happened
                .touches
                .entry(touch.address)
                .or_default()
                .push(touch);
        }
        for (address, touches) in &happened.touches {
            match relayed(touches) {
                Some(Some(value)) => {
                    happened.relayed.insert(*address, value);
                }
                Some(None) => {}
                None => {
                    happened.relayed.remove(address);
                }
            }
        }
    }

    /// What was done to addresses by what was done to others, or to clients and subnets.
    fn consequences(&self, touches: &[Touch], effects: &Effects) -> Vec<Touch> {
        let mut all = Vec::new();
        let mut add = |address: Ipv4Addr, at, what, step: &str| {
            let step = step.to_owned();
            all.push(Touch {
                address,
                at,
                what,
                step,
            });
        };
        // Whoever has a lease, or got one meanwhile, and where.
        let mut holders: Vec<_> = self
            .before
            .rows
            .iter()
            .map(|(address, row)| (*address, row.identity.clone()))
            .collect();
        for touch in touches {
            match &touch.what {
                What::Acknowledged(who, _)
                | What::Requested(who, _)
                | What::Offered(who)
                | What::Put(who) => {
                    holders.push((touch.address, who.clone()));
                }
                _ => {}
            }
        }
        for touch in touches {
            let who = match &touch.what {
                What::Acknowledged(who, _) | What::Requested(who, _) => who,
                // Where Kea reserves what it offers, the client gives up what it had.
                What::Offered(who) if self.world.reserves_offers => who,
                _ => continue,
            };
            for (address, holder) in &holders {
                if *address != touch.address && holder.may_be(who) {
                    add(
                        *address,
                        touch.at,
                        What::GivenUp(holder.clone()),
                        &touch.step,
                    );
                }
            }
        }
        for removal in &effects.removals {
            let range = self.before.configured.subnets.get(&removal.subnet);
            for (address, holder) in &holders {
                let is_there = self.before.rows.get(address).map_or_else(
                    || range.is_none_or(|(first, last)| (*first..=*last).contains(address)),
                    |row| row.subnet == removal.subnet,
                );
                let is_meant = removal
                    .identity
                    .as_ref()
                    .is_none_or(|who| holder.may_be(who));
                if is_there && is_meant {
                    let what = What::Deleted(removal.command);
                    add(*address, removal.at, what, removal.command);
                }
            }
        }
        all
    }

    /// Looks at everything, and again while something is not as it should be.
    fn look(&mut self, title: &str) -> Result<(), String> {
        let since = self.earlier_answers();
        let mut faults = Vec::new();
        let mut looks = 0;
        let most = if self.options.multi_threading {
            LOOKS
        } else {
            1
        };
        let (look, persistent) = loop {
            looks += 1;
            let look = Look::take(&self.kea, since.clone())
                .map_err(|error| format!("{title}: {error}"))?;
            self.summary.looks += 1;
            self.note_moved(&look);
            // One pair is of before Kea reclaimed something, or of after it.
            let found = [0, 1].map(|which| compare(&self.before, &look, which, &self.happened));
            let is_right = found.iter().any(Vec::is_empty);
            let [_, found] = found;
            if looks == 1 || looks == most {
                faults = found;
            }
            if is_right || looks == most {
                break (look, !is_right);
            }
            thread::sleep(BETWEEN_LOOKS);
        };
        let mut result = Ok(());
        if persistent {
            result = Err(self.report(title, &faults, &look));
        } else if looks > 1 {
            self.summary.late += 1;
            if self.options.tells_late {
                eprintln!("late, {}", self.report(title, &faults, &look));
            }
        }
        self.kept.push_back((
            format!("query for changes since {title}"),
            look.answers[0].clone(),
        ));
        while self.kept.len() > KEPT_ANSWERS {
            let oldest = self.random.below(self.kept.len() / 2);
            self.kept.remove(oldest);
        }
        self.before = Before::of(look);
        self.happened.touches.clear();
        result
    }

    /// Notes which addresses a reconfiguration has moved: all, where one came after another.
    fn note_moved(&mut self, look: &Look) {
        let moved = match self.happened.reconfigurations {
            0 => return,
            1 => moved(&self.before, look),
            _ => look.answers[1].seen.keys().copied().collect(),
        };
        let at = look.answers[1].base;
        let moved = moved.into_iter().map(|address| (address, at));
        self.happened.moved.extend(moved);
    }

    /// The latest answers, and one of the older ones.
    fn earlier_answers(&mut self) -> Vec<(String, Answer)> {
        let mut since: Vec<_> = self.kept.iter().rev().take(2).cloned().collect();
        if !self.kept.is_empty() {
            let old = self.random.below(self.kept.len());
            since.push(self.kept[old].clone());
        }
        since
    }

    /// Faults for people: what Kea says, what the hook says, and what happened.
    fn report(&self, title: &str, faults: &[Fault], look: &Look) -> String {
        let mut text = format!("{title}: {} faults\n", faults.len());
        let show = |thing: Option<String>| thing.unwrap_or_else(|| "nothing".to_owned());
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for fault in faults {
            // What comes after is of this address or that query.
            let kind: String = fault.claim.chars().take(32).collect();
            let kind = kind.replace(|c: char| c.is_ascii_digit(), "");
            let told = kinds.entry(kind).or_default();
            *told += 1;
            if *told > FAULTS_TOLD {
                continue;
            }
            text += &format!("  {fault}\n");
            let Some(address) = &fault.address else {
                continue;
            };
            let row = |rows: &BTreeMap<Ipv4Addr, _>| show(rows.get(address).map(row_text));
            let seen = |answer: &Answer| show(answer.seen.get(address).map(ToString::to_string));
            text += &format!("    Kea before:  {}\n", row(&self.before.rows));
            text += &format!("    Kea now:     {}\n", row(&look.rows[1]));
            text += &format!("    hook before: {}\n", seen(&self.before.answer));
            text += &format!("    hook now:    {}\n", seen(&look.answers[1]));
            text += &self.history.of(*address);
        }
        for (kind, count) in kinds.iter().filter(|(_, count)| **count > FAULTS_TOLD) {
            text += &format!("  {count} like this: {kind} ...\n");
        }
        text
    }
}

/// A lease for people.
fn row_text(row: &super::look::Row) -> String {
    row.to_string()
}

impl Before {
    /// What a look leaves to compare the next one with.
    fn of(look: Look) -> Self {
        let [_, answer] = look.answers;
        let [_, rows] = look.rows;
        Before {
            answer,
            rows,
            configured: look.configured,
        }
    }
}

/// Ends a disturbance when dropped, by a panic too: clients wait for its end.
struct Calm<'a>(&'a AtomicBool);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Deed {
    /// Whether queries and messages may get lost meanwhile.
    fn is_rough(self) -> bool {
        matches!(
            self,
            Deed::Reload(_)
                | Deed::ReloadSame
                | Deed::ConfigSet(_)
                | Deed::HangUp(_)
                | Deed::Refused(_)
                | Deed::Restart
                | Deed::Kill
        )
    }
}

/// Asks for everything again and again; how often, and the last answer.
fn query_until(
    is_over: &AtomicBool,
    server: SocketAddrV4,
    is_rough: bool,
) -> Result<(u64, Option<Answer>), String> {
    let (mut count, mut last) = (0, None);
    while !is_over.load(Ordering::Relaxed) {
        match glance(server) {
            Ok(answer) => {
                if let Some(address) = answer.disorder.first() {
                    return Err(format!("{address} is told twice or out of order"));
                }
                count += 1;
                last = Some(answer);
            }
            Err(_) if is_rough => {}
            Err(Ended::Terminated) => return Err("a query was terminated".to_owned()),
            Err(Ended::Error(error)) => return Err(format!("a query failed: {error}")),
        }
        thread::sleep(Duration::from_millis(30));
    }
    Ok((count, last))
}

/// Waits until the hook answers.
fn await_listener(kea: &Kea) {
    eventually_some("the hook's listener", || {
        glance(kea.place().lease_query()).ok()
    });
}

/// The option 82 last relayed for an address, or none if it stays as it was: `None` if that is not
/// certain.
fn relayed(touches: &[Touch]) -> Option<Option<Vec<u8>>> {
    let mut value: Option<&Vec<u8>> = None;
    let mut client = None;
    for touch in touches {
        match &touch.what {
            What::Acknowledged(who, relayed) => {
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
            What::Offered(_) => {}
            _ => return None,
        }
    }
    Some(value.cloned())
}

/// Logs what is needed here, and little else: storms are long.
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
