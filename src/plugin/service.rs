//! What loading, configuring and unloading do.
//!
//! Kea unloads and loads its libraries at each reconfiguration, but this one stays in memory
//! (see `build.rs`), and with it what is kept here: when a new configuration is refused and Kea
//! goes on, the previous one is served again.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::DirBuilder;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cxx::Exception;
use parking_lot::{Mutex, RwLock};

use crate::config::{Config, Level};
use crate::ffi::bridge::{self, CalloutHandle, KeaOption, LibraryHandle};
use crate::ffi::exports::HOOKS_VERSION;
use crate::ffi::main_loop::{Ticks, Waker};
use crate::ffi::{kea_log, lease_taker};
use crate::kea_config::{ConfiguredOption, KeaConfig, KeaConfigError};
use crate::mirror::event::Event;
use crate::mirror::{Identity, Mirror};
use crate::model::binding::SubnetId;
use crate::model::time::Time;
use crate::persist::store::Preload;
use crate::plugin::hand_over::HandOver;
use crate::plugin::instance::{Before, IDLE, Instance, InstanceError, SignalsBlocked};
use crate::plugin::jobs::reservations::Reservations;
use crate::plugin::{attribution, command_line, required_callouts, state_file};
use crate::server::Listeners;

/// The only daemon this library is for.
const DAEMON: &str = "kea-dhcp4";

/// The state file, unless `state-file` names one.
const STATE_FILE: &str = "kea-blq.state";

/// Kea's lease file, unless its configuration names one.
const LEASE_FILE: &str = "kea-leases4.csv";

/// The symbol that every file with this library in it exports: [`KEA_BLQ_LIBRARY`](crate::ffi::exports::KEA_BLQ_LIBRARY).
const LIBRARY_SYMBOL: &str = "KEA_BLQ_LIBRARY";

/// The environment variable that names Kea's data directory (Kea ARM, from 2.6.3 on).
const DATA_DIRECTORY: &str = "KEA_DHCP_DATA_DIR";

/// What requesters are told when their queries are ended.
const UNLOADED: &str = "the DHCP server is being reconfigured or shut down";

/// How long to wait before Kea's leases are tried again when they cannot be read.
const RETRY: Duration = Duration::from_secs(2);

/// From one taking over of Kea's configuration while it runs to the next, at least.
const RECONFIGURATION_PAUSE: Duration = Duration::from_secs(1);

/// The library must not be loaded; the log says why.
#[derive(Debug)]
pub struct Refused;

/// What lasts from one call of Kea's to the next.
struct State {
    /// The parameters of the library as last loaded, as JSON text.
    parameters: String,
    /// What is running.
    instance: Option<Instance>,
    /// What ran last.
    good: Option<Settings>,
    /// What `good` waits for before it can run; `None` if it runs, or need not.
    awaiting: Option<Awaiting>,
    /// Whether Kea has configured this library since it loaded it, and so the others.
    is_configured: bool,
    /// Whether the lease manager could not be had to tell of changes.
    is_track_lost: bool,
    /// When Kea's configuration was last taken over while it runs.
    reconfigured: Option<Instant>,
    /// What the last to run left for the next.
    keeper: HandOver,
    /// The state file, while Kea starts.
    preload: Option<Preload>,
    /// Turns on Kea's main thread.
    ticks: Option<Ticks>,
}

/// What a configuration waits for before it can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    /// Kea's leases, which cannot be read.
    Leases,
    /// Whatever kept it from being served again, e.g. threads that could not be started.
    Anything,
}

/// Used on Kea's main thread, and by whoever has just processed a command that loads libraries.
static STATE: Mutex<State> = Mutex::new(State {
    parameters: String::new(),
    instance: None,
    good: None,
    awaiting: None,
    is_configured: false,
    is_track_lost: false,
    reconfigured: None,
    keeper: HandOver::NOTHING,
    preload: None,
    ticks: None,
});

/// Whether the lease manager tells of changes.
static TRACKING: AtomicBool = AtomicBool::new(false);

/// Whether Kea's configuration may have changed while it runs.
static RECONFIGURED: AtomicBool = AtomicBool::new(false);

/// Whether leases may have changed unheard.
static RESYNC_REQUESTED: AtomicBool = AtomicBool::new(false);

/// Brings turns about while something is to run.
static WAKER: Mutex<Option<Waker>> = Mutex::new(None);

/// The mirror that changes go to. Written while no packet is processed, so that Kea's packet threads
/// never wait for it.
static MIRROR: RwLock<Option<Arc<Mirror>>> = RwLock::new(None);

/// All that running needs to know.
#[derive(Clone)]
pub struct Settings {
    /// The library's parameters.
    pub config: Config,
    /// Kea's configuration.
    pub kea_config: Arc<KeaConfig>,
    /// What it was made from.
    source: Arc<Source>,
    /// Kea's data directory.
    data_directory: PathBuf,
    /// The state file.
    pub state_file: PathBuf,
}

/// Kea's configuration as Kea gives it.
#[derive(PartialEq, Eq)]
struct Source {
    /// The whole of it as JSON text.
    text: Vec<u8>,
    /// Its options.
    options: Vec<ConfiguredOption>,
    /// The host reservations that are in databases, as last read.
    reservations: Reservations,
}

impl Source {
    /// Takes what Kea gives.
    fn new(text: Vec<u8>, options: Vec<KeaOption>, reservations: Reservations) -> Source {
        Source {
            text,
            options: options
                .into_iter()
                .filter_map(KeaOption::configured)
                .collect(),
            reservations,
        }
    }

    /// What it comes to.
    fn kea_config(&self) -> Result<KeaConfig, KeaConfigError> {
        let Reservations { hosts, options } = &self.reservations;
        let options = [&self.options[..], &options[..]].concat();
        KeaConfig::new(&String::from_utf8_lossy(&self.text), options, hosts)
    }
}

impl Settings {
    /// Reads the library's parameters and Kea's configuration, of which what is as it was in
    /// `before` need not be made again; says what is wrong.
    fn read(
        parameters: &str,
        handle: &CalloutHandle,
        before: Option<&Settings>,
    ) -> Result<Settings, String> {
        let config = Config::parse(parameters).map_err(|error| error.to_string())?;
        let unreadable = |error: Exception| format!("Kea's configuration cannot be read: {error}");
        let kea = bridge::configuration(handle).map_err(unreadable)?;
        let options = bridge::configured_options(handle).map_err(unreadable)?;
        // Those in databases can be read only when Kea is done with its configuration.
        let reservations = before.map(|before| before.source.reservations.clone());
        let source = Source::new(kea, options, reservations.unwrap_or_default());
        let (source, kea_config) = match before.filter(|before| *before.source == source) {
            Some(same) => (Arc::clone(&same.source), Arc::clone(&same.kea_config)),
            None => {
                let kea_config = source.kea_config().map_err(|error| error.to_string())?;
                (Arc::new(source), Arc::new(kea_config))
            }
        };
        let data_directory = data_directory().map_err(unreadable)?;
        Ok(Settings {
            state_file: find_state_file(&config, &data_directory, &source.text)?,
            data_directory,
            kea_config,
            source,
            config,
        })
    }

    /// Logs what is odd about the parameters.
    fn notice(&self) {
        for notice in &self.config.notices {
            match notice.level {
                Level::Info => tracing::info!(id = notice.id, "{}", notice.text),
                Level::Warning => tracing::warn!(id = notice.id, "{}", notice.text),
            }
        }
    }
}

/// Kea's data directory. Kea 2.2 does not look at the environment for it as later ones do; one
/// variable for all spares operators and tests a difference.
fn data_directory() -> Result<PathBuf, Exception> {
    match std::env::var_os(DATA_DIRECTORY) {
        Some(directory) if !directory.is_empty() => Ok(directory.into()),
        _ => bridge::data_directory().map(PathBuf::from),
    }
}

/// Where the state file is, by Kea's configuration as well, as JSON text; says why it may not be there.
fn find_state_file(
    config: &Config,
    data_directory: &Path,
    configuration: &[u8],
) -> Result<PathBuf, String> {
    let name = config.state_file.as_deref();
    let path = data_directory.join(name.unwrap_or(Path::new(STATE_FILE)));
    let found = match bridge::data_file(&path.to_string_lossy()) {
        Ok(found) => PathBuf::from(found),
        Err(error) => return Err(state_file::refused(&path, &error).to_string()),
    };
    state_file::check(&found, configuration, lease_file).map_err(|error| error.to_string())?;
    Ok(found)
}

/// Where Kea's lease file is that is configured as `name`, if that can be found out.
fn lease_file(name: Option<&str>) -> Option<PathBuf> {
    match name {
        Some(name) => bridge::data_file(name).map(PathBuf::from).ok(),
        None => {
            let directory = bridge::data_directory().ok()?;
            Some(Path::new(&directory).join(LEASE_FILE))
        }
    }
}

/// Checks that Kea has this library loaded once, by whatever names; says if not. Each time counts as a
/// library of its own to Kea, with parameters of its own, of which only those of one could hold.
fn check_loaded_once() -> Result<(), String> {
    let libraries = bridge::libraries().unwrap_or_default();
    let is_this = |file: &&String| bridge::library_exports(file, LIBRARY_SYMBOL).unwrap_or(false);
    let names: Vec<String> = libraries
        .iter()
        .filter(is_this)
        .map(|name| format!("{name:?}"))
        .collect();
    if names.len() <= 1 {
        return Ok(());
    }
    Err(format!(
        "'hooks-libraries' has this library {} times, as {}; it must be there once",
        names.len(),
        names.join(" and "),
    ))
}

/// Takes note of the library's parameters. Whether they are good is said when the configuration
/// is complete: a library that refuses to load leaves Kea without any DHCP service.
pub fn load(mut library: Pin<&mut LibraryHandle>) -> Result<(), Refused> {
    kea_log::set_up();
    attribution::on_main_thread();
    let refused = |error: Exception| {
        tracing::error!(id = "BLQ_LOAD_FAILED", "{error}");
        Refused
    };
    let daemon = bridge::process_name().map_err(refused)?;
    if daemon != DAEMON {
        tracing::error!(
            id = "BLQ_WRONG_DAEMON",
            "this library serves the leases of {DAEMON} and cannot be loaded by {daemon}: remove \
             it from the 'hooks-libraries' of {daemon}"
        );
        return Err(Refused);
    }
    forgo_needless(library.as_mut());
    let parameters = bridge::parameters(library).map_err(refused)?;
    let mut state = STATE.lock();
    state.is_configured = false;
    state.parameters = if parameters.is_empty() {
        "null".to_owned()
    } else {
        String::from_utf8_lossy(&parameters).into_owned()
    };
    state.preload = None;
    // A mirror that was kept needs no file.
    if state.keeper.is_empty() && !only_checks() {
        state.preload = read_ahead(&state.parameters);
    }
    Ok(())
}

/// Begins to read the state file: Kea goes on to read all of its leases, which takes longer. What
/// cannot be known yet, or is wrong, is left for when the configuration is complete.
fn read_ahead(parameters: &str) -> Option<Preload> {
    let config = Config::parse(parameters).ok()?;
    let configuration = bridge::staged_configuration().ok()?;
    let path = find_state_file(&config, &data_directory().ok()?, &configuration).ok()?;
    let _signals = SignalsBlocked::new();
    Preload::begin(&path)
}

/// Has Kea not call what is needless. If that fails, there is just more to do.
fn forgo_needless(mut library: Pin<&mut LibraryHandle>) {
    let mut forgo = || -> Result<(), Exception> {
        let configuration = bridge::staged_configuration()?;
        let needless = required_callouts::needless(HOOKS_VERSION, &configuration);
        attribution::set_announced(required_callouts::announces(&needless));
        for point in needless {
            bridge::forgo(library.as_mut(), point)?;
        }
        Ok(())
    };
    attribution::set_announced(true);
    if let Err(error) = forgo() {
        tracing::warn!(id = "BLQ_CALLOUT_FAILED", "load: {error}");
    }
}

/// Kea has taken over a configuration, or checked it.
pub fn configured(handle: Pin<&mut CalloutHandle>) -> Result<(), Exception> {
    let mut state = STATE.lock();
    state.is_configured = true;
    let settings = check_loaded_once()
        .and_then(|()| Settings::read(&state.parameters, &handle, state.good.as_ref()));
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return refuse(&mut state, handle, &error),
    };
    settings.notice();
    if only_checks() {
        tracing::info!(
            id = "BLQ_CHECKED",
            "the configuration is good; nothing is started"
        );
        return Ok(());
    }
    let required = required_listeners(&settings.config, state.good.as_ref());
    match run(&mut state, settings, &required) {
        Ok(()) => Ok(()),
        Err(error) => refuse(&mut state, handle, &error),
    }
}

/// Returns the addresses and ports without which a configuration is refused: those that an administrator asks
/// for while Kea runs, who is to know at once if one cannot be had.
///
/// All others are tried until they work, since DHCP comes first: those that were configured before, for whose
/// trouble the reconfiguration is not the cause, and all of them when Kea starts.
fn required_listeners(config: &Config, before: Option<&Settings>) -> Vec<SocketAddrV4> {
    match before {
        Some(before) => config.new_listeners(&before.config),
        None if bridge::has_configuration().unwrap_or(false) => config.listeners().collect(),
        None => Vec::new(),
    }
}

/// Has Kea refuse the configuration, and serves the previous one, if there was one.
fn refuse(
    state: &mut State,
    handle: Pin<&mut CalloutHandle>,
    error: &dyn Display,
) -> Result<(), Exception> {
    tracing::error!(id = "BLQ_CONFIGURATION_REFUSED", "{error}");
    state.preload = None;
    serve_previous(state);
    bridge::reject(handle, &error.to_string())?;
    // Kea stops its packet threads when it begins to configure, and starts them at the end if
    // all went well. Without them it would go on with one thread, and 2.2 with none at all.
    bridge::restore_threads()
}

/// Serves the previous configuration, if there was one. If that fails, turns try again.
fn serve_previous(state: &mut State) {
    let Some(good) = state.good.clone() else {
        return;
    };
    // Kea configures this library as often as it is listed.
    if state.instance.is_some() {
        return;
    }
    match run(state, good, &[]) {
        Ok(()) => tell_previous(),
        Err(error) => {
            tracing::error!(
                id = "BLQ_NOT_SERVING",
                "the previous configuration cannot be served again: {error}; it is tried again every {} s",
                RETRY.as_secs()
            );
            // Without turns the end of the next command tries again.
            if let Ok(ticks) = Ticks::start() {
                ticks.waker().wake_in(RETRY);
                state.ticks = Some(ticks);
                state.awaiting = Some(Awaiting::Anything);
            }
        }
    }
}

/// Logs that the previous configuration is served again.
fn tell_previous() {
    tracing::warn!(
        id = "BLQ_PREVIOUS_CONFIGURATION",
        "the previous configuration is served again"
    );
}

/// Serves the previous configuration if Kea has loaded the library anew and then not configured
/// it: `libreload` does only that, and a reconfiguration may fail in between. To be called when
/// the command that did so is over.
pub fn resume() -> Result<(), Exception> {
    let is_to_serve = |state: &State| {
        state.instance.is_none()
            && state.good.is_some()
            && state.awaiting.is_none()
            && !only_checks()
    };
    if is_to_serve(&STATE.lock()) {
        // Packet threads push to the mirror that is there. Not while `STATE` is locked: this waits
        // for threads that may wait for it.
        let _paused = CriticalSection::enter()?;
        let mut state = STATE.lock();
        if is_to_serve(&state) {
            serve_previous(&mut state);
        }
    }
    Ok(())
}

/// Kea's configuration may have changed while it runs: it is taken over in the next turn.
pub fn reconfigured() {
    RECONFIGURED.store(true, Ordering::Release);
    wake();
}

/// Leases may have changed unheard: the mirror is compared with Kea's lease database as soon as
/// possible.
pub fn reconcile() {
    RESYNC_REQUESTED.store(true, Ordering::Release);
    wake();
}

/// Brings the next turn about.
fn wake() {
    if let Some(waker) = &*WAKER.lock() {
        waker.wake();
    }
}

/// Takes Kea's configuration over as it is now, with the host reservations in databases, if they
/// were read anew.
fn reconfigure(state: &mut State, reservations: Option<Reservations>) {
    let Some(good) = &mut state.good else {
        return;
    };
    let is_complete = reservations.is_some();
    let reservations = reservations.unwrap_or_else(|| good.source.reservations.clone());
    let read = || -> Result<Source, Exception> {
        let text = bridge::current_configuration()?;
        Ok(Source::new(text, bridge::current_options()?, reservations))
    };
    let changed = read()
        .map_err(|error| error.to_string())
        .and_then(|source| {
            if source == *good.source {
                return Ok(None);
            }
            let kea_config = source.kea_config().map_err(|error| error.to_string())?;
            Ok(Some((source, kea_config)))
        });
    match changed {
        Ok(None) => {}
        Ok(Some((source, kea_config))) => {
            good.source = Arc::new(source);
            good.kea_config = Arc::new(kea_config);
            push(Event::SavedView {
                kea_config: Arc::clone(&good.kea_config),
                is_complete,
                at: Time::now(),
            });
        }
        Err(error) => tracing::error!(id = "BLQ_NETWORK_UNREADABLE", "{error}"),
    }
}

/// Does what is to be done on Kea's main thread now, and sees to the next turn.
pub fn tick() {
    attribution::leave_packet();
    // Nobody has claimed these, and nobody will.
    attribution::claim_deleted();
    let mut state = STATE.lock();
    // Whatever becomes of this one, it is not due any more: Kea would do nothing else.
    set_timer(&state, IDLE);
    let next = if state.instance.is_some() {
        take_tick(&mut state)
    } else if state.awaiting.is_some() {
        drop(state);
        try_again();
        state = STATE.lock();
        RETRY
    } else {
        IDLE
    };
    set_timer(&state, next);
    // Whoever asked for a turn before the timer was set is not forgotten.
    let is_due =
        |instance: &Instance| instance.is_tick_due() || RESYNC_REQUESTED.load(Ordering::Acquire);
    if state.instance.as_ref().is_some_and(is_due) {
        set_timer(&state, Duration::ZERO);
    }
}

/// Has the next turn come in `time`.
fn set_timer(state: &State, time: Duration) {
    if let Some(ticks) = &state.ticks {
        ticks.waker().wake_in(time);
    }
}

/// Does what is to be done while something runs; says in how long there is more.
fn take_tick(state: &mut State) -> Duration {
    if state.is_track_lost {
        track(state);
    }
    let mut next = IDLE;
    if RECONFIGURED.load(Ordering::Acquire) {
        // Commands come one by one, and each might take over the whole configuration.
        let now = Instant::now();
        if state
            .reconfigured
            .is_some_and(|last| now < last + RECONFIGURATION_PAUSE)
        {
            next = RECONFIGURATION_PAUSE;
        } else {
            RECONFIGURED.store(false, Ordering::Release);
            state.reconfigured = Some(now);
            reconfigure(state, None);
            if let Some(instance) = &mut state.instance {
                instance.read_reservations();
            }
        }
    }
    let Some(instance) = &mut state.instance else {
        return next;
    };
    if RESYNC_REQUESTED.swap(false, Ordering::AcqRel) {
        instance.reconcile();
    }
    let tick = instance.tick();
    if let Some(good) = &state.good {
        if tick.was_lost {
            // It may be among what was lost.
            push(Event::SavedView {
                kea_config: Arc::clone(&good.kea_config),
                is_complete: false,
                at: Time::now(),
            });
        }
        if let Some(reservations) = tick.reservations
            && good.source.reservations != reservations
        {
            reconfigure(state, Some(reservations));
        }
    }
    next.min(tick.next)
}

/// Starts the configuration that could not run before, if Kea's leases can be read now.
fn try_again() {
    if lease_taker::collect(|taker| bridge::lease_page(0, 1, taker)).is_err() {
        return;
    }
    // Not while `STATE` is locked: this waits for threads that may wait for it.
    let paused = CriticalSection::enter();
    let mut state = STATE.lock();
    if let Err(error) = &paused {
        tracing::error!(id = "BLQ_CALLOUT_FAILED", "critical section: {error}");
        return;
    }
    if state.instance.is_some() {
        return;
    }
    let (Some(awaiting), Some(settings)) = (state.awaiting, state.good.clone()) else {
        return;
    };
    match start(&mut state, settings, &[]) {
        Ok(()) if awaiting == Awaiting::Anything && state.instance.is_some() => tell_previous(),
        Ok(()) => {}
        Err(error) => {
            if awaiting != Awaiting::Anything {
                tracing::error!(
                    id = "BLQ_NOT_SERVING",
                    "{error}; it is tried again every {} s",
                    RETRY.as_secs()
                );
            }
            state.awaiting = Some(Awaiting::Anything);
        }
    }
}

/// While it lives Kea's packet threads wait.
struct CriticalSection;

impl CriticalSection {
    /// Has them wait.
    fn enter() -> Result<CriticalSection, Exception> {
        bridge::enter_critical_section().map(|()| CriticalSection)
    }
}

impl Drop for CriticalSection {
    fn drop(&mut self) {
        if let Err(error) = bridge::exit_critical_section() {
            tracing::error!(id = "BLQ_CALLOUT_FAILED", "critical section: {error}");
        }
    }
}

/// Runs by `settings`, and keeps them as good if that succeeds, or will when Kea's leases can be
/// read. Fails if one of the addresses `required` cannot be listened on.
fn run(state: &mut State, settings: Settings, required: &[SocketAddrV4]) -> Result<(), String> {
    // Nothing should run by now. If it does, it has the port and the state file.
    stop(state);
    start(state, settings, required).inspect_err(|_| stop(state))
}

/// Starts what is to run by `settings`; nothing runs.
fn start(state: &mut State, settings: Settings, required: &[SocketAddrV4]) -> Result<(), String> {
    // Debian leaves making it to its service units, and Kea is not always run by those. If it
    // cannot be made, the state file cannot either, and that is said.
    let _ = DirBuilder::new()
        .mode(0o750)
        .create(&settings.data_directory);
    // Before anything else takes a descriptor: Kea can watch those with low numbers only.
    let ticks = match state.ticks.take() {
        Some(ticks) => ticks,
        None => Ticks::start()?,
    };
    let waker = state.ticks.insert(ticks).waker();
    *WAKER.lock() = Some(waker.clone());
    let config = &settings.config;
    let listeners = config
        .bulk_query_enabled
        .then(|| Listeners::open(config, required))
        .transpose()
        .map_err(|error| error.to_string())?;
    let before = match state.keeper.take() {
        Some(kept) => Before::HandedOver(Box::new(kept)),
        None => Before::Saved(state.preload.take()),
    };
    match Instance::start(&settings, listeners, before, waker, state.is_configured) {
        Ok(instance) => {
            *MIRROR.write() = Some(instance.mirror());
            state.instance = Some(instance);
            state.awaiting = None;
            track(state);
        }
        Err(InstanceError::NoLeases(error)) => {
            if state.awaiting != Some(Awaiting::Leases) {
                tracing::error!(
                    id = "BLQ_LEASES_UNREADABLE",
                    "{error}; queries are answered once they can be read"
                );
            }
            state.awaiting = Some(Awaiting::Leases);
        }
        Err(InstanceError::Failed(error)) => {
            state.awaiting = None;
            return Err(error);
        }
    }
    state.good = Some(settings);
    Ok(())
}

/// Has the lease manager tell of changes, where it can.
fn track(state: &mut State) {
    let tracking = bridge::track_leases();
    if let Err(error) = &tracking
        && !state.is_track_lost
    {
        tracing::warn!(
            id = "BLQ_LEASES_UNREADABLE",
            "changes of leases are not told of: {error}"
        );
    }
    state.is_track_lost = tracking.is_err();
    TRACKING.store(tracking.unwrap_or(false), Ordering::Release);
}

/// Whether the lease manager tells of changes.
pub fn is_tracking() -> bool {
    TRACKING.load(Ordering::Acquire)
}

/// Stops what is running.
fn stop(state: &mut State) {
    *WAKER.lock() = None;
    state.ticks = None;
    state.is_track_lost = false;
    state.awaiting = None;
    if TRACKING.swap(false, Ordering::AcqRel)
        && let Err(error) = bridge::untrack_leases()
    {
        tracing::error!(id = "BLQ_CALLOUT_FAILED", "lease manager: {error}");
    }
    if let Some(instance) = state.instance.take() {
        *MIRROR.write() = None;
        if let Some(kept) = instance.stop(UNLOADED) {
            state.keeper.keep(kept);
        }
    }
}

/// Kea ends, or is about to load the library anew.
pub fn unload() {
    let mut state = STATE.lock();
    state.preload = None;
    stop(&mut state);
}

/// Takes in a change.
pub fn push(event: Event) {
    match &event {
        // Of these there is too much to tell.
        Event::ResyncBegun
        | Event::ResyncPage { .. }
        | Event::ResyncDone { .. }
        | Event::SavedView { .. }
        | Event::Serving { .. } => {}
        event => tracing::debug!(id = "BLQ_LEASE_CHANGED", "{event}"),
    }
    if let Some(mirror) = &*MIRROR.read() {
        mirror.queue().push(event);
    }
}

/// A change of a lease could not be taken in.
pub fn change_missed() {
    if let Some(mirror) = &*MIRROR.read() {
        mirror.queue().lose();
    }
}

/// The mirror, if it is complete. Changes that cannot be looked up during the initial load are found by a
/// resync afterwards.
fn known() -> Option<Arc<Mirror>> {
    let mirror = MIRROR.read().clone()?;
    if !mirror.is_complete() {
        reconcile();
        return None;
    }
    Some(mirror)
}

/// The addresses with a binding from one of `subnets`, as far as is [`known`].
pub fn addresses_in(subnets: &HashSet<SubnetId>) -> Vec<Ipv4Addr> {
    known().map_or_else(Vec::new, |mirror| mirror.addresses_in(subnets))
}

/// The addresses a client holds in `subnet`, as far as is [`known`].
pub fn addresses_of(client: &Identity, subnet: SubnetId) -> Vec<Ipv4Addr> {
    known().map_or_else(Vec::new, |mirror| mirror.addresses_of(client, subnet))
}

/// All subnets of the configuration, as far as is [`known`].
pub fn subnets() -> HashSet<SubnetId> {
    known().map_or_else(HashSet::new, |mirror| {
        mirror.kea_config().subnet_ids().collect()
    })
}

/// Whether the process was started to check a configuration.
fn only_checks() -> bool {
    let arguments = std::env::args_os().skip(1);
    command_line::checks_configuration(arguments.map(OsStringExt::into_vec))
}
