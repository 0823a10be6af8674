//! Database servers for Kea's leases, reservations and configurations.
//!
//! Each test has its own server, which it can stop and start again. The script `database.sh`
//! performs all operations. The script and the servers run on this machine or, if
//! `BLQ_DATABASE_IMAGE` names an image, in containers that share this machine's loopback interface.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use rustix::process::{getgid, getuid};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wait::wait_for;
use crate::{PATIENCE, Place};

/// The script that prepares and runs servers.
const SCRIPT: &str = include_str!("database.sh");

/// The script's output when a server is ready.
const READY: &str = "ready\n";

/// The port of all servers, as in the script.
const PORT: u16 = 6769;

/// The user id of servers when root runs the tests: `nobody`, since PostgreSQL refuses to run as
/// root.
const UNPRIVILEGED: u32 = 65_534;

/// A kind of database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    PostgreSql,
    /// MariaDB, which represents MySQL too.
    MariaDb,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 2] = [Kind::PostgreSql, Kind::MariaDb];

    /// Returns the kind's name in the script.
    fn name(self) -> &'static str {
        match self {
            Kind::PostgreSql => "postgresql",
            Kind::MariaDb => "mariadb",
        }
    }

    /// Returns the kind's name in Kea's configuration.
    pub fn backend(self) -> &'static str {
        match self {
            Kind::PostgreSql => "postgresql",
            Kind::MariaDb => "mysql",
        }
    }

    /// Returns Kea's libraries for this kind: Kea 3.0 has one for all purposes, earlier versions
    /// one for configurations.
    pub(crate) fn libraries(self) -> [&'static str; 2] {
        match self {
            Kind::PostgreSql => ["libdhcp_pgsql.so", "libdhcp_pgsql_cb.so"],
            Kind::MariaDb => ["libdhcp_mysql.so", "libdhcp_mysql_cb.so"],
        }
    }
}

/// Defines a test for each function named and each kind of database: `postgresql::name` and
/// `mariadb::name`.
#[macro_export]
macro_rules! for_each_kind {
    ($($name:ident),+ $(,)?) => {
        $crate::for_each_kind!(@ postgresql, PostgreSql, $($name),+);
        $crate::for_each_kind!(@ mariadb, MariaDb, $($name),+);
    };
    (@ $module:ident, $kind:ident, $($name:ident),+) => {
        /// The tests with this kind of database.
        mod $module {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::Kind::$kind);
                }
            )+
        }
    };
}

/// A database server with the tables of Kea's databases. It is stopped, and its files are removed,
/// on drop.
#[derive(Debug)]
pub struct Database {
    /// The kind of the server.
    kind: Kind,
    /// The address on which it listens.
    address: Ipv4Addr,
    /// The script's process, which stops the server when its standard input ends, so that no server
    /// outlives the tests. `None` while stopped.
    process: Option<Child>,
    /// The directory of the server's files.
    home: TempDir,
    /// The template, kept for other tests that need a database.
    _template: Arc<Template>,
}

// ----- Starting and ending --------------------------------------------------------------------

impl Database {
    /// Starts a server with the tables of Kea's databases, all empty.
    #[track_caller]
    pub fn start(kind: Kind) -> Self {
        let template = Template::of(kind);
        let home = new_home();
        // As root this keeps the owner.
        let copied = Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(template.home.path().join("data"))
            .arg(home.path())
            .status();
        assert!(copied.is_ok_and(|status| status.success()), "copying files");
        let mut database = Database {
            kind,
            address: Place::take().address(1),
            process: None,
            home,
            _template: template,
        };
        database.start_again();
        database
    }

    /// Starts the server on its former files.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the database server is running");
        let log_file = self.log_file();
        let log = File::create(&log_file).expect("making a log file");
        let mut command = self.programs().command(
            Some(&self.container()),
            &[
                "serve",
                self.kind.name(),
                &self.address.to_string(),
                &self.home.path().display().to_string(),
            ],
        );
        command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let process = self.process.insert(command.spawn().expect("running sh"));
        let ready = wait_for(PATIENCE, || match process.try_wait() {
            Ok(None) => read(&log_file).contains(READY).then_some(true),
            _ => Some(false),
        });
        assert_eq!(ready, Some(true), "no database:\n{}", self.log());
    }

    /// Stops the server as an administrator would: connections to it end.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the database server is running");
        drop(process.stdin.take());
        let ended = wait_for(PATIENCE, || process.try_wait().expect("its status"));
        assert!(
            ended.is_some(),
            "a database server did not end:\n{}",
            self.log()
        );
    }

    /// Returns the server's log.
    pub fn log(&self) -> String {
        read(&self.log_file())
    }

    /// Returns the path of the server's log.
    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Returns the environment of the script for this server.
    fn programs(&self) -> Programs<'_> {
        Programs::with_files_in(self.home.path())
    }

    /// Returns the name of the server's container, if it runs in one.
    fn container(&self) -> String {
        let name = self.home.path().file_name().expect("a directory's name");
        name.to_string_lossy().into_owned()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("----- log of {} -----\n{}", self.kind.name(), self.log());
        }
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            // The files can be removed once the server has ended. If it does not end, nothing more
            // can be done.
            let _ = wait_for(PATIENCE, || process.try_wait().ok().flatten());
        }
    }
}

// ----- Use ------------------------------------------------------------------------------------

impl Database {
    /// The kind of the server.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the access parameters, as in Kea's `lease-database`.
    pub fn access(&self) -> Value {
        json!({
            "type": self.kind.backend(),
            "host": self.address.to_string(),
            "port": PORT,
            "name": "kea",
            "user": "kea",
            "password": "kea",
        })
    }

    /// Executes SQL statements. Returns the rows of their results, all values as text.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> Vec<Vec<String>> {
        let arguments = ["sql", self.kind.name(), &self.address.to_string()];
        let mut command = self.programs().command_in(&self.container(), &arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("running sh");
        let mut input = process.stdin.take().expect("a pipe");
        // The program does not block on its output before the end, because results are small.
        let written = input.write_all(statements.as_bytes());
        drop(input);
        let output = process.wait_with_output().expect("the output of sh");
        assert!(
            written.is_ok() && output.status.success(),
            "{statements}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let rows = String::from_utf8_lossy(&output.stdout);
        let values = |row: &str| row.split('\t').map(str::to_owned).collect();
        rows.lines().map(values).collect()
    }
}

// ----- Where servers run ----------------------------------------------------------------------

/// Files of a new server, copied for each test.
#[derive(Debug)]
struct Template {
    /// The directory that contains the directory `data`.
    home: TempDir,
}

impl Template {
    /// Returns the template of a kind: the first of the running tests makes it, the others share
    /// it.
    #[track_caller]
    fn of(kind: Kind) -> Arc<Template> {
        static ALL: [Mutex<Weak<Template>>; 2] = [const { Mutex::new(Weak::new()) }; 2];
        // If a test fails to make the template, the others try again.
        let slot = &ALL[kind as usize];
        let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
        known.upgrade().unwrap_or_else(|| {
            let template = Arc::new(Template::make(kind));
            *known = Arc::downgrade(&template);
            template
        })
    }

    /// Makes a template.
    #[track_caller]
    fn make(kind: Kind) -> Template {
        let home = new_home();
        let address = Place::take().address(1).to_string();
        let directory = home.path().display().to_string();
        let arguments = ["prepare", kind.name(), &address, &directory];
        let output = Programs::with_files_in(home.path())
            .command(None, &arguments)
            .stdin(Stdio::null())
            .output()
            .expect("running sh");
        assert!(
            output.status.success(),
            "{} cannot be set up; scripts/setup and scripts/images install the prerequisites.\n{}{}",
            kind.name(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        Template { home }
    }
}

/// The environment of the script.
struct Programs<'a> {
    /// The directory of a server's files.
    home: &'a Path,
    /// The image of the servers' containers, if they run in containers.
    image: Option<String>,
    /// The user and the group of the servers.
    user: (u32, u32),
}

impl<'a> Programs<'a> {
    /// Returns the environment for a server with its files in `home`.
    fn with_files_in(home: &'a Path) -> Self {
        Programs {
            home,
            image: env::var("BLQ_DATABASE_IMAGE")
                .ok()
                .filter(|name| !name.is_empty()),
            user: unprivileged(),
        }
    }

    /// Returns the script's command, in a container with a name or without one, or outside
    /// containers.
    fn command(&self, container: Option<&str>, arguments: &[&str]) -> Command {
        let Some(image) = &self.image else {
            return self.locally(arguments);
        };
        let mut command = Command::new("docker");
        command.args([
            "run",
            "--rm",
            "--init",
            "--interactive",
            "--network",
            "host",
        ]);
        if let Some(name) = container {
            command.args(["--name", name]);
        }
        // Programs look up the name of their user, which the image may not have.
        if getuid().as_raw() != 0 {
            command.args(["--volume", "/etc/passwd:/etc/passwd:ro"]);
        }
        // MariaDB stores local times.
        if Path::new("/etc/localtime").exists() {
            command.args(["--volume", "/etc/localtime:/etc/localtime:ro"]);
        }
        let home = self.home.display();
        command.arg(format!("--volume={home}:{home}"));
        command.arg(format!("--user={}:{}", self.user.0, self.user.1));
        command
            .args([image, "sh", "-c", SCRIPT, "database"])
            .args(arguments);
        command
    }

    /// Returns the script's command in a running container, or outside containers.
    fn command_in(&self, container: &str, arguments: &[&str]) -> Command {
        if self.image.is_none() {
            return self.locally(arguments);
        }
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", container]);
        command
            .args(["sh", "-c", SCRIPT, "database"])
            .args(arguments);
        command
    }

    /// Returns the script's command outside containers.
    fn locally(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "database"]).args(arguments);
        command.current_dir(self.home);
        if getuid().as_raw() == 0 {
            command.uid(self.user.0).gid(self.user.1);
        }
        command
    }
}

/// Returns the user and group of the servers: those of the tests, unless that is root.
fn unprivileged() -> (u32, u32) {
    match getuid().as_raw() {
        0 => (UNPRIVILEGED, UNPRIVILEGED),
        user => (user, getgid().as_raw()),
    }
}

/// Creates a directory for a server's files, owned by the server's user.
fn new_home() -> TempDir {
    let home = tempfile::Builder::new()
        .prefix("kea-blq-database-")
        .tempdir()
        .expect("a temporary directory");
    let (user, group) = unprivileged();
    chown(home.path(), Some(user), Some(group)).expect("changing the owner of a directory");
    home
}

/// Returns the text of a log file.
fn read(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}
