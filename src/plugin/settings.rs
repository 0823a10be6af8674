//! The settings of an instance: the library's parameters and Kea's configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::Level;

use crate::config::Config;
use crate::kea_config::{KeaConfig, KeaConfigError, LeaseQueryHook, ignored_vpns};
use crate::plugin::jobs::reservations::Reservations;
use crate::plugin::kea::{Kea, KeaError, RawConfiguration, Result as KeaResult};
use crate::plugin::state_file;
use crate::server::TlsContext;

/// The state file, unless `state-file` names one.
const STATE_FILE: &str = "kea-blq.state";

/// Kea's lease file, unless its configuration names one.
const LEASE_FILE: &str = "kea-leases4.csv";

/// The settings of an instance.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The library's parameters, without the queries that are left to Kea's own hook.
    pub config: Config,
    /// The library's parameters as given.
    pub given: Config,
    /// The files of TLS as they were when the configuration was read; `None` if TLS is off.
    pub tls: Option<Arc<TlsContext>>,
    /// Kea's configuration.
    pub kea_config: Arc<KeaConfig>,
    /// The form of it that Kea gives.
    source: Arc<Source>,
    /// The directory that a relative path of the state file is relative to.
    pub data_directory: PathBuf,
    /// The state file.
    pub state_file: PathBuf,
}

/// Kea's configuration, and the part of it that is in databases.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    /// The configuration.
    configuration: RawConfiguration,
    /// The host reservations in databases, as last read.
    reservations: Reservations,
}

impl Source {
    /// Parses the configuration.
    fn kea_config(&self) -> Result<KeaConfig, KeaConfigError> {
        let RawConfiguration { text, options } = &self.configuration;
        let reservations = &self.reservations;
        let options = [&options[..], &reservations.options[..]].concat();
        KeaConfig::new(&String::from_utf8_lossy(text), options, &reservations.hosts)
    }
}

impl Settings {
    /// Reads the library's parameters (JSON text) and Kea's configuration. A configuration equal to that of
    /// `before` is not built again.
    ///
    /// # Errors
    /// The text for the administrator.
    pub fn read(
        kea: &impl Kea,
        parameters: &str,
        configuration: impl FnOnce() -> KeaResult<RawConfiguration>,
        before: Option<&Settings>,
    ) -> Result<Settings, String> {
        let given = Config::parse(parameters).map_err(|error| error.to_string())?;
        let mut config = given.clone();
        let unreadable = |error: KeaError| format!("Kea's configuration cannot be read: {error}");
        // Host reservations in databases can be read only when Kea has taken over its configuration.
        let reservations = before.map(|before| before.source.reservations.clone());
        let source = Source {
            configuration: configuration().map_err(unreadable)?,
            reservations: reservations.unwrap_or_default(),
        };
        let (source, kea_config) = match before.filter(|before| *before.source == source) {
            Some(same) => (Arc::clone(&same.source), Arc::clone(&same.kea_config)),
            None => {
                let kea_config = source.kea_config().map_err(|error| error.to_string())?;
                (Arc::new(source), Arc::new(kea_config))
            }
        };
        if let Some(other) = &kea_config.lease_query_hook {
            config.leave_to(other).map_err(|error| error.to_string())?;
        }
        let tls = TlsContext::load(&config).map_err(|error| error.to_string())?;
        let data_directory = kea.state_directory().map_err(unreadable)?;
        let text = &source.configuration.text;
        Ok(Settings {
            state_file: find_state_file(kea, &config, &data_directory, text)?,
            data_directory,
            tls: tls.map(Arc::new),
            kea_config,
            source,
            config,
            given,
        })
    }

    /// Adapts the parameters to the libraries that Kea has loaded now, after it has refused another configuration: the
    /// libraries of that one stay.
    pub fn adapt(&mut self, kea: &impl Kea) {
        let libraries = kea.libraries().unwrap_or_default();
        let other = libraries
            .iter()
            .find(|library| LeaseQueryHook::is_file(&library.file));
        self.config = match other {
            None => self.given.clone(),
            Some(library) => {
                let known = self.kea_config.lease_query_hook.clone();
                let hook = known.unwrap_or_else(|| LeaseQueryHook::over_udp(&library.file));
                self.given.without_queries_of(&hook)
            }
        };
    }

    /// Reads Kea's configuration as it is in force now, with `reservations` as the host reservations in
    /// databases if those were just read; returns whether it has changed.
    ///
    /// # Errors
    /// The text for the administrator. The settings stay as they are.
    pub fn refresh(
        &mut self,
        kea: &impl Kea,
        reservations: Option<Reservations>,
    ) -> Result<bool, String> {
        let configuration = kea.current_configuration();
        let source = Source {
            configuration: configuration.map_err(|error| error.to_string())?,
            reservations: reservations.unwrap_or_else(|| self.source.reservations.clone()),
        };
        if source == *self.source {
            return Ok(false);
        }
        let kea_config = source.kea_config().map_err(|error| error.to_string())?;
        self.source = Arc::new(source);
        self.kea_config = Arc::new(kea_config);
        Ok(true)
    }

    /// Returns whether the host reservations in databases are others than these settings have.
    pub fn have_changed(&self, reservations: &Reservations) -> bool {
        self.source.reservations != *reservations
    }

    /// Logs the notices about the parameters, about declarations of VPNs without effect, and about the files of
    /// TLS.
    pub fn log_notices(&self) {
        let text = String::from_utf8_lossy(&self.source.configuration.text);
        for text in ignored_vpns(&text) {
            tracing::warn!(id = "BLQ_VPN_IGNORED", "{text}");
        }
        for notice in &self.config.notices {
            match notice.level {
                Level::INFO => tracing::info!(id = notice.id, "{}", notice.text),
                _ => tracing::warn!(id = notice.id, "{}", notice.text),
            }
        }
        if let Some(tls) = &self.tls {
            tls.report().log_warnings();
        }
    }
}

/// Returns the state file of a configuration that Kea is loading; `None` if it cannot be known yet or the
/// configuration is wrong.
pub fn staged_state_file(kea: &impl Kea, parameters: &str) -> Option<PathBuf> {
    let config = Config::parse(parameters).ok()?;
    let configuration = kea.staged_configuration().ok()?;
    let data_directory = kea.state_directory().ok()?;
    find_state_file(kea, &config, &data_directory, &configuration).ok()
}

/// Returns the path of the state file. `configuration` is Kea's, as JSON text.
///
/// # Errors
/// The text for the administrator: the file may not be there.
fn find_state_file(
    kea: &impl Kea,
    config: &Config,
    data_directory: &Path,
    configuration: &[u8],
) -> Result<PathBuf, String> {
    let name = config.state_file.as_deref();
    let path = data_directory.join(name.unwrap_or(Path::new(STATE_FILE)));
    let found = kea.data_file(&path.to_string_lossy());
    let found = found.map_err(|error| state_file::refused(&path, &error))?;
    let lease_file = |name: Option<&str>| lease_file(kea, name);
    state_file::check(&found, configuration, lease_file)?;
    Ok(found)
}

/// Returns the path of Kea's lease file that is configured as `name`, if it can be determined.
fn lease_file(kea: &impl Kea, name: Option<&str>) -> Option<PathBuf> {
    match name {
        Some(name) => kea.data_file(name).ok(),
        None => Some(kea.data_directory().ok()?.join(LEASE_FILE)),
    }
}
