//! A running kea-dhcp4.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use crate::setup::{HOME, LEASE_FILE_IN_USE};
use crate::wait::{eventually, wait_for};
use crate::{PATIENCE, Place, Relay, Setup, control};

/// The message kea-dhcp4 logs when it is ready to serve.
const STARTED: &str = "DHCP4_STARTED";

/// A kea-dhcp4 for one test. It is ended, and its files are removed, on drop.
#[derive(Debug)]
pub struct Kea {
    /// The configuration it was started with.
    setup: Setup,
    /// The directory of all its files.
    home: TempDir,
    /// The process; `None` once it has ended.
    process: Option<Child>,
    /// Number of starts; each run has a separate log.
    runs: usize,
    /// The duration of the last start.
    start_time: Duration,
}

// ----- Starting and ending --------------------------------------------------------------------

impl Kea {
    /// Starts a server; the error is its log if it ends instead.
    pub(crate) fn start(setup: Setup) -> Result<Self, String> {
        let home = new_home();
        write_configuration(&setup.configuration(home.path()), home.path());
        setup.write_lease_file(home.path());
        let mut kea = Kea {
            setup,
            home,
            process: None,
            runs: 0,
            start_time: Duration::ZERO,
        };
        kea.run()?;
        Ok(kea)
    }

    /// Runs the server on the files of its home and waits until it is ready.
    fn run(&mut self) -> Result<(), String> {
        // Kea converts a lease file with fewer columns in another process, and does not start
        // before that is done.
        let converting = self.home.path().join(LEASE_FILE_IN_USE);
        eventually("the conversion of the lease file", || !converting.exists());
        self.runs += 1;
        let log_file = self.log_file();
        let log = File::create(&log_file).expect("making a log file");
        let mut command = daemon("kea-dhcp4", self.home.path());
        if let Some(limit) = self.setup.descriptors {
            command = limited(&command, limit);
        }
        if let Some(user) = self.setup.user() {
            give_away(self.home.path(), user);
            command.uid(user).gid(user);
        }
        command
            .args(["-p", &self.setup.place.server().port().to_string()])
            .args(["-P", &self.setup.place.client_port().to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let began = Instant::now();
        let process = self.process.insert(command.spawn().expect("running Kea"));
        let ready = wait_for(self.setup.patience, || match process.try_wait() {
            Ok(None) => read_log(&log_file).contains(STARTED).then_some(true),
            _ => Some(false),
        });
        self.start_time = began.elapsed();
        if ready == Some(true) {
            return Ok(());
        }
        if ready == Some(false) {
            self.process = None;
        }
        Err(self.log())
    }

    /// Starts a stopped or killed server on its former files.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "kea-dhcp4 is running");
        if let Err(log) = self.run() {
            panic!("kea-dhcp4 did not start again:\n{log}");
        }
    }

    /// Starts a stopped or killed server, which must end by itself. Returns its log.
    #[track_caller]
    pub fn fail_to_start_again(&mut self) -> String {
        assert!(self.process.is_none(), "kea-dhcp4 is running");
        match self.run() {
            Ok(()) => panic!("kea-dhcp4 started again:\n{}", self.log()),
            Err(log) => log,
        }
    }

    /// Stops the server as an administrator would and starts it on its former files.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Ends the server by SIGTERM; it must end by itself.
    #[track_caller]
    pub fn stop(&mut self) {
        let status = self.end(Signal::TERM);
        assert!(
            status.success(),
            "kea-dhcp4 ended with {status} on SIGTERM:\n{}",
            self.log()
        );
    }

    /// Sends SIGTERM; [`Kea::await_end`] waits for the end.
    pub fn begin_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends the server by SIGKILL, as a crash would.
    #[track_caller]
    pub fn kill(&mut self) {
        let status = self.end(Signal::KILL);
        assert!(status.signal().is_some(), "ended before: {}", self.log());
    }

    /// Sends a signal and awaits the end.
    #[track_caller]
    fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.await_end()
    }

    /// Waits until the server has ended.
    #[track_caller]
    pub fn await_end(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("kea-dhcp4 is running");
        let patience = self.setup.patience;
        let ended = wait_for(patience, || process.try_wait().expect("its status"));
        match ended {
            Some(status) => {
                self.process = None;
                status
            }
            None => panic!("kea-dhcp4 did not end:\n{}", self.log()),
        }
    }

    /// Makes the server read its configuration file again, by SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends a signal to the server.
    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("kea-dhcp4 is running");
        kill_process(Pid::from_child(process), signal).expect("signalling a child");
    }

    /// Whether the server is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.as_mut().map(Child::try_wait), Some(Ok(None)))
    }
}

impl Drop for Kea {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("----- log of kea-dhcp4 -----\n{}", self.log());
        }
        if let Some(mut process) = self.process.take() {
            // The server may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

// ----- Logs, commands and configurations ------------------------------------------------------

impl Kea {
    /// Returns the addresses and ports of this test.
    pub fn place(&self) -> Place {
        self.setup.place
    }

    /// Returns the configuration it was started with, or the last one written.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Returns the directory of all the server's files.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns the directory of leases and the hook's state file.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Returns the server's process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("kea-dhcp4 is running").id()
    }

    /// Returns the duration of the last start, from running the program until it was ready to
    /// serve.
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// Returns relay number `n`, from 0, whose address is in the default subnet.
    pub fn relay(&self, n: u8) -> Relay {
        self.relay_at(self.place().relay(n))
    }

    /// Returns a relay with a given address.
    pub fn relay_at(&self, address: std::net::Ipv4Addr) -> Relay {
        Relay::new(
            address,
            self.place().client_port(),
            vec![self.place().server()],
        )
    }

    /// Returns the log of the current or last run.
    pub fn log(&self) -> String {
        read_log(&self.log_file())
    }

    /// Waits until the current run's log has `text`.
    #[track_caller]
    pub fn await_log(&self, text: &str) {
        crate::eventually(&format!("'{text}' in the log"), || {
            self.log().contains(text)
        });
    }

    /// Returns the path of that log.
    fn log_file(&self) -> PathBuf {
        self.home.path().join(format!("log.{}", self.runs))
    }

    /// Returns the path of the control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.home.path().join("control/socket")
    }

    /// Sends a command and returns the whole answer.
    #[track_caller]
    pub fn command(&self, name: &str, arguments: Value) -> Value {
        let mut command = json!({ "command": name });
        if !arguments.is_null() {
            command["arguments"] = arguments;
        }
        match control::send(&self.control_socket(), &command) {
            Ok(answer) => answer,
            Err(error) => panic!("command {name}: {error}; log:\n{}", self.log()),
        }
    }

    /// Sends a command that must succeed and returns the answer's arguments.
    #[track_caller]
    pub fn command_ok(&self, name: &str, arguments: Value) -> Value {
        let mut answer = self.command(name, arguments);
        assert_eq!(answer["result"], 0, "command {name}: {answer}");
        answer["arguments"].take()
    }

    /// Sends a command that must fail and returns the answer's text.
    #[track_caller]
    pub fn command_error(&self, name: &str, arguments: Value) -> String {
        let answer = self.command(name, arguments);
        assert_eq!(answer["result"], 1, "command {name}: {answer}");
        answer["text"].as_str().unwrap_or_default().to_owned()
    }

    /// Changes the configuration file, without a reload.
    pub fn rewrite(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.setup = change(self.setup.clone());
        write_configuration(&self.setup.configuration(self.home()), self.home());
    }

    /// Changes the configuration file and reloads it. Returns the answer to `config-reload`.
    #[track_caller]
    pub fn reconfigure(&mut self, change: impl FnOnce(Setup) -> Setup) -> Value {
        self.rewrite(change);
        self.command("config-reload", Value::Null)
    }

    /// Sends another configuration by `config-set`. Returns the answer.
    #[track_caller]
    pub fn config_set(&self, change: impl FnOnce(Setup) -> Setup) -> Value {
        let changed = change(self.setup.clone()).configuration(self.home());
        self.command("config-set", changed)
    }

    /// Runs Kea with this configuration beside the server, e.g. with `-t`.
    pub fn check(&self, option: &str) -> Output {
        let file = configuration_file(self.home());
        let mut command = daemon_without_file("kea-dhcp4", self.home());
        output(command.arg(option).arg(file))
    }
}

// ----- Programs -------------------------------------------------------------------------------

/// The result of a program that ended.
#[derive(Debug)]
pub struct Output {
    /// Whether it ended with status 0.
    pub success: bool,
    /// The text of both output streams.
    pub text: String,
}

/// Returns the version of the kea-dhcp4 under test, e.g. `2.2.0`.
pub fn kea_version() -> String {
    let mut command = Command::new(program("kea-dhcp4"));
    output(command.arg("-v")).text.trim().to_owned()
}

/// Runs another of Kea's daemons, e.g. `kea-dhcp6`, until it ends. [`HOME`] in the configuration
/// stands for a directory with `hooks`, `data` and `control`.
pub fn run_daemon(name: &str, configuration: &Value, hook: &Path) -> Output {
    let home = new_home();
    let path = home.path().display().to_string();
    let linked = home
        .path()
        .join("hooks")
        .join(hook.file_name().expect("a file"));
    std::os::unix::fs::symlink(hook, linked).expect("linking the hook");
    let text = configuration.to_string().replace(HOME, &path);
    let configuration = serde_json::from_str(&text).expect("the JSON with its paths replaced");
    write_configuration(&configuration, home.path());
    output(&mut daemon(name, home.path()))
}

/// Runs a program until it ends, or kills it after [`PATIENCE`].
fn output(command: &mut Command) -> Output {
    let log = NamedTempFile::new().expect("a temporary file");
    let handle = log.reopen().expect("a handle for the program");
    let mut process = command
        .stdin(Stdio::null())
        .stdout(handle.try_clone().expect("a second handle"))
        .stderr(handle)
        .spawn()
        .expect("running a program");
    let status = wait_for(PATIENCE, || process.try_wait().expect("its status"));
    if status.is_none() {
        let _ = process.kill();
        let _ = process.wait();
    }
    Output {
        success: status.is_some_and(|status| status.success()),
        text: read_log(log.path()),
    }
}

/// Returns the command of one of Kea's daemons with the configuration in `home`.
fn daemon(name: &str, home: &Path) -> Command {
    let mut command = daemon_without_file(name, home);
    command.arg("-c").arg(configuration_file(home));
    command
}

/// Returns the command with a limit of open descriptors.
fn limited(command: &Command, limit: u32) -> Command {
    // The shell executes the program, so that the process id stays the same.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", r#"ulimit -S -n "$0" && exec "$@""#])
        .arg(limit.to_string())
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    limited
}

/// Returns the command of one of Kea's daemons with its files in `home`.
fn daemon_without_file(name: &str, home: &Path) -> Command {
    let mut command = Command::new(unconfined(program(name), home));
    command
        .env("KEA_HOOKS_PATH", home.join("hooks"))
        .env("KEA_DHCP_DATA_DIR", home.join("data"))
        .env("KEA_LOCKFILE_DIR", home)
        .env("KEA_PIDFILE_DIR", home)
        .env("KEA_LOG_FILE_DIR", home)
        .env("KEA_CONTROL_SOCKET_DIR", home.join("control"))
        .current_dir(home);
    command
}

/// Returns the executable of one of Kea's daemons: from the search path, otherwise from the
/// packages' directories.
fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed"))
}

/// Returns a program that may write to a test's directory.
///
/// Debian's packages confine Kea's daemons to their system directories by AppArmor profiles, which
/// depend on the path of the executable: where they are enforced, a copy is run.
fn unconfined(program: PathBuf, home: &Path) -> PathBuf {
    let enforced = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enforced.is_ok_and(|answer| answer.starts_with('Y')) {
        return program;
    }
    let copy = home.join(program.file_name().expect("a program's file name"));
    if !copy.exists() {
        // A separate process makes the copy: a copy open for writing here while another thread
        // starts a program could not be executed.
        let status = Command::new("cp").arg(&program).arg(&copy).status();
        assert!(status.is_ok_and(|status| status.success()), "copying Kea");
    }
    copy
}

/// Creates a directory for a server's files.
fn new_home() -> TempDir {
    let home = tempfile::Builder::new()
        .prefix("kea-blq-")
        .tempdir()
        .expect("a temporary directory");
    for name in ["data", "hooks", "control"] {
        let directory = home.path().join(name);
        fs::create_dir(&directory).expect("making a directory");
        // Kea 3.0 refuses a control socket that others could reach.
        fs::set_permissions(&directory, Permissions::from_mode(0o750)).expect("its mode");
    }
    home
}

/// Gives a server's home to another user: its directories, but none of the files in `data`.
fn give_away(home: &Path, user: u32) {
    let directories = ["", "data", "hooks", "control"].map(|name| home.join(name));
    for directory in directories {
        chown(&directory, Some(user), Some(user)).expect("changing an owner");
    }
}

/// Returns the path of the configuration file in a server's home.
fn configuration_file(home: &Path) -> PathBuf {
    home.join("kea.json")
}

/// Writes the configuration file.
fn write_configuration(configuration: &Value, home: &Path) {
    fs::write(configuration_file(home), format!("{configuration:#}")).expect("writing a file");
}

/// Returns the text of a log file.
fn read_log(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}
