//! Load, configure, unload, and ticks.
//!
//! Kea unloads and loads its libraries at each reconfiguration, but this one stays in memory (see
//! `build.rs`), and with it the state below: when a new configuration is refused and Kea continues, the
//! previous one is served again.

use std::fs::DirBuilder;
use std::mem::take;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Config;
use crate::mirror::event::Event;
use crate::model::time::Time;
use crate::persist::Preload;
use crate::plugin::commands::may_change;
use crate::plugin::control::{COMMANDS, Control};
use crate::plugin::hand_over::HandOver;
use crate::plugin::instance::{Before, IDLE, Instance, InstanceError};
use crate::plugin::jobs::reservations::Reservations;
use crate::plugin::kea::{Kea, KeaError, Library, RawConfiguration, Result as KeaResult};
use crate::plugin::lease_events::LeaseEvents;
use crate::plugin::required_callouts;
use crate::plugin::settings::{Settings, staged_state_file};
use crate::plugin::statistics::{self, Requests, Statistics, Totals};
use crate::plugin::system::SignalsBlocked;
use crate::plugin::udp::{UdpQueries, Verdict};
use crate::server::Listeners;
use crate::server::udp::Datagram;

/// The only daemon that can use this library.
const DAEMON: &str = "kea-dhcp4";

/// The reason that requesters get when their queries end.
const UNLOADED: &str = "the DHCP server is being reconfigured or shut down";

/// Time from one attempt to start the instance to the next.
const RETRY: Duration = Duration::from_secs(2);

/// The least time from one reading of Kea's configuration in force to the next.
const RECONFIGURATION_PAUSE: Duration = Duration::from_secs(1);

/// The commands that reload libraries.
const RELOADING: [&str; 3] = ["config-reload", "config-set", "libreload"];

/// The library must not be loaded; the log says why.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused;

/// The plugin.
pub struct Plugin<K: Kea> {
    /// Kea.
    kea: K,
    /// The events of Kea's leases.
    events: LeaseEvents<K>,
    /// The counters for the statistics, which go on as long as the process.
    totals: Arc<Totals>,
    /// Kea's changes to the statistics.
    statistic_requests: Requests,
    /// The queries over UDP.
    udp: UdpQueries,
    /// The control commands, which come on any thread.
    control: Control,
    /// The state. Used on Kea's main thread, and by the thread that has just processed a command that loads
    /// libraries.
    state: Mutex<State>,
}

/// The state that lasts from one call of Kea's to the next.
#[derive(Default)]
struct State {
    /// The parameters of the library as last loaded, as JSON text.
    parameters: String,
    /// The instance that runs.
    instance: Option<Instance>,
    /// The settings of the last instance.
    good: Option<Settings>,
    /// The condition on which the next instance of the settings `good` waits; `None` if one runs, or need
    /// not.
    awaiting: Option<Awaiting>,
    /// Whether Kea has configured this library, and so the others, since it loaded it.
    is_configured: bool,
    /// Whether the lease manager could not be reached to track leases.
    is_track_lost: bool,
    /// When Kea's configuration in force was last read.
    reconfigured: Option<Instant>,
    /// The mirror of the last instance.
    hand_over: HandOver,
    /// The state file being read, while Kea starts.
    preload: Option<Preload>,
    /// Whether Kea's main loop makes ticks.
    has_ticks: bool,
    /// The statistics in Kea.
    statistics: Statistics,
}

/// The condition on which an instance waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    /// Kea's leases can be read.
    Leases,
    /// Any other cause is gone, such as a thread that could not be started.
    Anything,
}

impl<K: Kea> Plugin<K> {
    /// Creates a plugin that is not loaded.
    pub fn new(kea: K) -> Plugin<K> {
        let totals = Arc::<Totals>::default();
        Plugin {
            events: LeaseEvents::new(kea.clone()),
            kea,
            control: Control::new(Arc::clone(&totals)),
            totals,
            statistic_requests: Requests::default(),
            udp: UdpQueries::default(),
            state: Mutex::default(),
        }
    }

    /// Returns the lease events.
    pub fn events(&self) -> &LeaseEvents<K> {
        &self.events
    }

    // -------------------------------------------------------------------- UDP

    /// Handles a message that Kea has received: answers it if it is a DHCPLEASEQUERY. Any packet thread may call
    /// this.
    #[inline]
    pub fn received(
        &self,
        datagram: Datagram<'_>,
        send: impl FnOnce(Ipv4Addr, &[u8]) -> KeaResult<()>,
    ) -> Verdict {
        self.udp.received(&self.kea, datagram, send)
    }

    // ------------------------------------------------------------------- Load

    /// Takes over the library's parameters. They are judged when the configuration is complete: a library
    /// that refuses to load leaves Kea without any DHCP service.
    ///
    /// # Errors
    /// The daemon is not kea-dhcp4, or Kea threw an exception.
    pub fn load(&self, library: &mut impl Library) -> Result<(), Refused> {
        self.events.attribution.on_main_thread();
        let refused = |error: KeaError| {
            tracing::error!(id = "BLQ_LOAD_FAILED", "{error}");
            Refused
        };
        let daemon = self.kea.process_name().map_err(refused)?;
        if daemon != DAEMON {
            tracing::error!(
                id = "BLQ_WRONG_DAEMON",
                "this library serves the leases of {DAEMON} and cannot be loaded by {daemon}: \
                 remove it from the 'hooks-libraries' of {daemon}"
            );
            return Err(Refused);
        }
        register_commands(library);
        let parameters = library.parameters().map_err(refused)?;
        let mut state = self.state.lock();
        self.forgo_needless(library, &parameters, state.good.as_ref());
        state.is_configured = false;
        state.parameters = if parameters.is_empty() {
            "null".to_owned()
        } else {
            String::from_utf8_lossy(&parameters).into_owned()
        };
        state.preload = None;
        // A mirror that is handed over needs no file.
        if state.hand_over.is_empty() && !self.kea.checks_only() {
            state.preload = self.begin_preload(&state.parameters);
        }
        if !self.kea.checks_only() {
            self.update_statistics(&mut state, true);
        }
        Ok(())
    }

    /// Begins to read the state file: Kea next reads all of its leases, which takes longer. An unknown
    /// or wrong configuration is left for when it is complete.
    fn begin_preload(&self, parameters: &str) -> Option<Preload> {
        let path = staged_state_file(&self.kea, parameters)?;
        let _signals = SignalsBlocked::new();
        Preload::begin(&path)
    }

    /// Deregisters the callouts that are required neither with these parameters nor with the previous settings, which
    /// are served again if the new configuration is refused. If that fails, they only cost time.
    fn forgo_needless(
        &self,
        library: &mut impl Library,
        parameters: &[u8],
        previous: Option<&Settings>,
    ) {
        let previous = previous.map(|settings| settings.given.udp_query_enabled);
        let config = Config::parse(&String::from_utf8_lossy(parameters));
        let is_udp_query_enabled =
            previous == Some(true) || config.is_ok_and(|config| config.udp_query_enabled);
        let udp = (!is_udp_query_enabled).then_some("buffer4_receive");
        let attribution = &self.events.attribution;
        attribution.set_announced(true);
        let mut forgo = || -> KeaResult<()> {
            let configuration = self.kea.staged_configuration()?;
            let needless = required_callouts::needless(self.kea.version(), &configuration);
            attribution.set_announced(required_callouts::announces(&needless));
            let mut needless = needless.into_iter().chain(udp);
            needless.try_for_each(|point| library.forgo(point))
        };
        if let Err(error) = forgo() {
            tracing::warn!(id = "BLQ_CALLOUTS_KEPT", "{error}");
        }
    }

    // -------------------------------------------------------------- Configure

    /// Serves a configuration that Kea has loaded, or checks it if the process was started for that.
    /// `configuration` reads it.
    ///
    /// # Errors
    /// The text with which Kea must refuse the configuration. The previous one is served again, if there was
    /// one.
    pub fn configured(
        &self,
        configuration: impl FnOnce() -> KeaResult<RawConfiguration>,
    ) -> Result<(), String> {
        let mut state = self.state.lock();
        state.is_configured = true;
        let settings = self.check_loaded_once().and_then(|()| {
            let parameters = &state.parameters;
            Settings::read(&self.kea, parameters, configuration, state.good.as_ref())
        });
        let settings = match settings {
            Ok(settings) => settings,
            Err(error) => return Err(self.refuse(&mut state, error)),
        };
        settings.log_notices();
        if self.kea.checks_only() {
            tracing::info!(
                id = "BLQ_CHECKED",
                "the configuration is good; nothing is started"
            );
            return Ok(());
        }
        let required = self.required_listeners(&settings.config, state.good.as_ref());
        let done = self
            .run(&mut state, settings, &required)
            .map_err(|error| self.refuse(&mut state, error));
        self.update_statistics(&mut state, true);
        done
    }

    /// Checks that Kea has loaded this library once, under any file name. To Kea each copy is a library of its
    /// own, with its own parameters, of which only one set could hold.
    fn check_loaded_once(&self) -> Result<(), String> {
        let libraries = self.kea.libraries().unwrap_or_default();
        let copies = libraries.iter().filter(|library| library.is_this);
        let names: Vec<String> = copies.map(|copy| format!("{:?}", copy.file)).collect();
        if names.len() <= 1 {
            return Ok(());
        }
        Err(format!(
            "'hooks-libraries' has this library {} times, as {}; it must be there once",
            names.len(),
            names.join(" and "),
        ))
    }

    /// Returns the addresses and ports without which a configuration is refused: those that an administrator
    /// adds while Kea runs, who must learn at once if one cannot be listened on.
    ///
    /// All others are tried until they work, since DHCP comes first: those that were configured before, for
    /// whose trouble the reconfiguration is not the cause, and all of them when Kea starts.
    fn required_listeners(&self, config: &Config, before: Option<&Settings>) -> Vec<SocketAddrV4> {
        match before {
            Some(before) => config.new_listeners(&before.config),
            None if self.kea.has_configuration().unwrap_or(false) => config.listeners().collect(),
            None => Vec::new(),
        }
    }

    /// Serves the previous configuration, if there was one; returns the text with which Kea must refuse the
    /// new one.
    fn refuse(&self, state: &mut State, error: String) -> String {
        tracing::error!(id = "BLQ_CONFIGURATION_REFUSED", "{error}");
        state.preload = None;
        self.serve_previous(state);
        // Kea stops its packet threads when it begins to configure, and starts them at the end of a
        // successful configuration only. Without them it would continue with one thread, and 2.2 with none.
        if let Err(error) = self.kea.restore_threads() {
            tracing::error!(id = "BLQ_THREADS_NOT_RESTORED", "{error}");
        }
        error
    }

    /// Serves the previous configuration, if there was one. If that fails, ticks try again.
    fn serve_previous(&self, state: &mut State) {
        let Some(mut good) = state.good.clone() else {
            self.control
                .set(Err("the configuration was refused: see the log".to_owned()));
            return;
        };
        // Kea configures this library as often as it is listed.
        if state.instance.is_some() {
            return;
        }
        good.adapt(&self.kea);
        match self.run(state, good, &[]) {
            Ok(()) => log_previous(),
            Err(error) => {
                tracing::error!(
                    id = "BLQ_NOT_SERVING",
                    "the previous configuration cannot be served again: {error}; the hook tries again every {} s",
                    RETRY.as_secs()
                );
                // Without ticks the end of the next command tries again.
                self.control.set(Err(error));
                if self.start_ticks(state).is_ok() {
                    self.kea.schedule_tick(RETRY);
                    state.awaiting = Some(Awaiting::Anything);
                }
            }
        }
    }

    // ----------------------------------------------------- Start and stop

    /// Runs an instance of `settings`, in place of the one that runs. The settings are kept as good if it
    /// starts, or will when Kea's leases can be read.
    ///
    /// # Errors
    /// One of the addresses `required` cannot be listened on, or the instance cannot start. The text is for
    /// the administrator.
    fn run(
        &self,
        state: &mut State,
        settings: Settings,
        required: &[SocketAddrV4],
    ) -> Result<(), String> {
        // None should run by now. One that does holds the port and the state file.
        self.stop(state);
        self.start(state, settings, required)
            .inspect_err(|_| self.stop(state))
    }

    /// Starts an instance of `settings`, while none runs. Errors are as in [`Plugin::run`].
    fn start(
        &self,
        state: &mut State,
        settings: Settings,
        required: &[SocketAddrV4],
    ) -> Result<(), String> {
        // Debian leaves this to its service units, and Kea is not always run by those. If it fails, the state
        // file cannot be created either, which is logged.
        let _ = DirBuilder::new()
            .mode(0o750)
            .create(&settings.data_directory);
        // Before any other descriptor is taken: Kea can watch only those with low numbers.
        self.start_ticks(state).map_err(|error| error.to_string())?;
        let config = &settings.config;
        let open = || Listeners::open(config, required);
        let listeners = config.bulk_query_enabled.then(open).transpose();
        let listeners = listeners.map_err(|error| error.to_string())?;
        let before = match state.hand_over.take() {
            Some(kept) => Before::HandedOver(Box::new(kept)),
            None => Before::Saved(state.preload.take()),
        };
        let has_partner = state.is_configured;
        let totals = &self.totals;
        match Instance::start(&self.kea, &settings, listeners, before, has_partner, totals) {
            Ok(instance) => {
                self.events.sink.set(Some(instance.mirror()));
                let counts = &self.totals.counts;
                self.udp.start(&settings.config, instance.mirror(), counts);
                self.control.set(Ok(instance.observed(&settings)));
                state.instance = Some(instance);
                state.awaiting = None;
                self.track(state);
            }
            Err(InstanceError::NoLeases(error)) => {
                if state.awaiting != Some(Awaiting::Leases) {
                    tracing::error!(
                        id = "BLQ_LEASES_UNREADABLE",
                        "{error}; queries are answered once they can be read"
                    );
                }
                self.control
                    .set(Err(format!("Kea's leases cannot be read: {error}")));
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

    /// Starts ticks, unless there are any; the first one is due at once.
    fn start_ticks(&self, state: &mut State) -> KeaResult<()> {
        if !state.has_ticks {
            self.kea.start_ticks()?;
            self.kea.schedule_tick(Duration::ZERO);
            state.has_ticks = true;
        }
        Ok(())
    }

    /// Starts to track leases, in versions of Kea that can.
    fn track(&self, state: &mut State) {
        let tracking = self.kea.track_leases();
        if let (Err(error), false) = (&tracking, state.is_track_lost) {
            tracing::warn!(id = "BLQ_LEASES_NOT_TRACKED", "{error}; trying again");
        }
        state.is_track_lost = tracking.is_err();
        self.events.set_tracking(tracking.unwrap_or(false));
    }

    /// Stops the instance that runs.
    fn stop(&self, state: &mut State) {
        if take(&mut state.has_ticks) {
            if let Err(error) = self.kea.stop_ticks() {
                tracing::error!(id = "BLQ_TICKS_NOT_STOPPED", "{error}");
            }
        }
        state.is_track_lost = false;
        state.awaiting = None;
        if self.events.set_tracking(false) {
            if let Err(error) = self.kea.untrack_leases() {
                tracing::error!(id = "BLQ_LEASES_STILL_TRACKED", "{error}");
            }
        }
        if let Some(instance) = state.instance.take() {
            self.events.sink.set(None);
            self.udp.stop();
            self.control.set(Err(UNLOADED.to_owned()));
            self.take_differences(&instance);
            if let Some(kept) = instance.stop(UNLOADED) {
                state.hand_over.keep(kept);
            }
        }
    }

    /// Stops, because Kea ends or is about to reload the library.
    pub fn unload(&self) {
        let mut state = self.state.lock();
        state.preload = None;
        self.stop(&mut state);
        if !self.kea.checks_only() {
            self.update_statistics(&mut state, true);
        }
    }

    // ------------------------------------------------------------- Statistics

    /// Updates the statistics if it is time, or always if `is_forced`.
    fn update_statistics(&self, state: &mut State, is_forced: bool) {
        let instance = state.instance.as_ref();
        let present = instance.map(|instance| {
            self.take_differences(instance);
            instance.present()
        });
        state.statistics.update(
            &self.kea,
            &self.totals,
            &self.statistic_requests,
            present.unwrap_or_default(),
            is_forced,
        );
    }

    /// Adds the changes that the resync of an instance has found.
    fn take_differences(&self, instance: &Instance) {
        let differences = instance.mirror().take_resync_differences();
        let total = &self.totals.resync_differences;
        total.fetch_add(differences, Ordering::Relaxed);
    }

    // --------------------------------------------------------------- Commands

    /// Handles a control command that has been processed. `command` reads its arguments and Kea's response,
    /// as JSON text.
    ///
    /// # Errors
    /// Kea threw an exception.
    pub fn commanded(
        &self,
        name: &str,
        command: impl FnOnce() -> KeaResult<(Vec<u8>, Vec<u8>)>,
    ) -> KeaResult<()> {
        // This and earlier commands on this thread may have deleted leases up to now, and none will later.
        let deleted = self.events.attribution.claim_deleted();
        let unannounced = self.events.attribution.leave_packet();
        if RELOADING.contains(&name) {
            return self.resume();
        }
        if statistics::may_change(name) {
            let (arguments, _) = command()?;
            self.statistic_requests.commanded(name, &arguments);
            return Ok(());
        }
        if !may_change(name) {
            return Ok(());
        }
        let (arguments, response) = command()?;
        self.events
            .commanded(name, &arguments, &response, deleted, unannounced);
        Ok(())
    }

    /// Executes a control command of this library, given as JSON text as Kea has received it. Returns the answer as
    /// JSON text. Any thread may call this, at any time.
    pub fn control(&self, command: &[u8]) -> Vec<u8> {
        let resync = || self.events.request_resync();
        self.control.execute(command, self.kea.version(), resync)
    }

    /// Serves the previous configuration if Kea has reloaded the library and then not configured it: `libreload`
    /// does only that, and a reconfiguration may fail in between.
    fn resume(&self) -> KeaResult<()> {
        let is_to_serve = |state: &State| {
            state.instance.is_none()
                && state.good.is_some()
                && state.awaiting.is_none()
                && !self.kea.checks_only()
        };
        if is_to_serve(&self.state.lock()) {
            // Packet threads push to the sink. Not while the state is locked: this waits for threads that may
            // wait for it.
            let _paused = CriticalSection::enter(&self.kea)?;
            let mut state = self.state.lock();
            if is_to_serve(&state) {
                self.serve_previous(&mut state);
            }
        }
        Ok(())
    }

    // ------------------------------------------------------------------ Ticks

    /// Does the work that is due on Kea's main thread, and schedules the next tick.
    pub fn tick(&self) {
        self.events.attribution.leave_packet();
        // No command has claimed these, and none will.
        self.events.attribution.claim_deleted();
        let mut state = self.state.lock();
        // First, so that a tick that panics is not due again at once: Kea would do nothing else.
        self.kea.schedule_tick(IDLE);
        let next = if state.instance.is_some() {
            self.tick_instance(&mut state)
        } else if state.awaiting.is_some() {
            drop(state);
            self.try_again();
            state = self.state.lock();
            RETRY
        } else {
            IDLE
        };
        self.udp.tick(self.kea.now());
        self.update_statistics(&mut state, false);
        self.kea.schedule_tick(next.min(statistics::INTERVAL));
        // Requests made before the tick was scheduled are not forgotten.
        let needs_resync = self.events.needs_resync.load(Ordering::Acquire);
        let is_due = |instance: &Instance| instance.is_tick_due() || needs_resync;
        if state.instance.as_ref().is_some_and(is_due) {
            self.kea.schedule_tick(Duration::ZERO);
        }
    }

    /// Does the work of the instance that runs; returns the time until there is more.
    fn tick_instance(&self, state: &mut State) -> Duration {
        let now = self.kea.now();
        if state.is_track_lost {
            self.track(state);
        }
        let mut next = IDLE;
        let needs_reconfiguration = &self.events.needs_reconfiguration;
        if needs_reconfiguration.load(Ordering::Acquire) {
            // Commands come one by one, and each might make the whole configuration be read.
            let last = state.reconfigured;
            if last.is_some_and(|last| now < last + RECONFIGURATION_PAUSE) {
                next = RECONFIGURATION_PAUSE;
            } else {
                needs_reconfiguration.swap(false, Ordering::AcqRel);
                state.reconfigured = Some(now);
                self.reconfigure(state, None);
                if let Some(instance) = &mut state.instance {
                    instance.read_reservations(now);
                }
            }
        }
        let Some(instance) = &mut state.instance else {
            return next;
        };
        if self.events.needs_resync.swap(false, Ordering::AcqRel) {
            instance.resync(now);
        }
        let tick = instance.tick(&self.kea, &self.events.sink);
        if let Some(good) = &state.good {
            if tick.was_lost {
                // It may be among the lost events.
                self.push_view(good, false);
            }
            let changed = |reservations: &_| good.have_changed(reservations);
            if let Some(reservations) = tick.reservations.filter(changed) {
                self.reconfigure(state, Some(reservations));
            }
        }
        next.min(tick.next)
    }

    /// Reads Kea's configuration in force, with the host reservations in databases, if those were just read.
    fn reconfigure(&self, state: &mut State, reservations: Option<Reservations>) {
        let Some(good) = &mut state.good else {
            return;
        };
        let is_complete = reservations.is_some();
        match good.refresh(&self.kea, reservations) {
            Ok(true) => self.push_view(good, is_complete),
            Ok(false) => {}
            Err(error) => tracing::error!(id = "BLQ_KEA_CONFIG_UNREADABLE", "{error}"),
        }
    }

    /// Pushes Kea's configuration, with the host reservations in databases if it `is_complete`.
    fn push_view(&self, settings: &Settings, is_complete: bool) {
        self.events.sink.push(Event::Reconfigured {
            kea_config: settings.kea_config.clone(),
            is_complete,
            at: Time::now(),
        });
    }

    /// Starts the instance that could not start before, if Kea's leases can be read now.
    fn try_again(&self) {
        if self.kea.lease_page(0, 1, &mut Vec::new()).is_err() {
            return;
        }
        // Not while the state is locked: this waits for threads that may wait for it.
        let paused = CriticalSection::enter(&self.kea);
        let mut state = self.state.lock();
        if let Err(error) = &paused {
            tracing::error!(id = "BLQ_THREADS_NOT_PAUSED", "{error}; trying again");
            return;
        }
        if state.instance.is_some() {
            return;
        }
        let (Some(awaiting), Some(settings)) = (state.awaiting, state.good.clone()) else {
            return;
        };
        match self.start(&mut state, settings, &[]) {
            Ok(()) if awaiting == Awaiting::Anything && state.instance.is_some() => log_previous(),
            Ok(()) => {}
            Err(error) => {
                if awaiting != Awaiting::Anything {
                    tracing::error!(
                        id = "BLQ_NOT_SERVING",
                        "{error}; the hook tries again every {} s",
                        RETRY.as_secs()
                    );
                }
                state.awaiting = Some(Awaiting::Anything);
            }
        }
    }
}

/// Registers the control commands. If that fails, Kea does not know them.
fn register_commands(library: &mut impl Library) {
    for name in COMMANDS {
        if let Err(error) = library.register_command(name) {
            tracing::warn!(id = "BLQ_COMMANDS_NOT_REGISTERED", "{name}: {error}");
        }
    }
}

/// Logs that the previous configuration is served again.
fn log_previous() {
    tracing::warn!(
        id = "BLQ_PREVIOUS_CONFIGURATION",
        "the previous configuration is served again"
    );
}

/// Stops Kea's packet threads until dropped.
struct CriticalSection<'a, K: Kea>(&'a K);

impl<K: Kea> CriticalSection<'_, K> {
    /// Stops them.
    fn enter(kea: &K) -> KeaResult<CriticalSection<'_, K>> {
        kea.enter_critical_section()?;
        Ok(CriticalSection(kea))
    }
}

impl<K: Kea> Drop for CriticalSection<'_, K> {
    fn drop(&mut self) {
        if let Err(error) = self.0.exit_critical_section() {
            tracing::error!(id = "BLQ_THREADS_NOT_RESUMED", "{error}");
        }
    }
}
