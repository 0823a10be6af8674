//! Database servers for Kea's leases, reservations and configurations.
//!
//! Each test has a server of its own, which it may stop and start again. All that is done with
//! them is in `database.sh`. It runs on this machine, as the servers do, or, where
//! `BLQ_DATABASE_IMAGE` names an image, in containers that share this machine's loopback.

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

/// What prepares and runs servers.
const SCRIPT: &str = include_str!("database.sh");

/// What the script says when a server serves.
const READY: &str = "ready\n";

/// The port of all servers, as in the script.
const PORT: u16 = 6769;

/// Who runs servers when root runs the tests, since PostgreSQL refuses root: `nobody`.
const UNPRIVILEGED: u32 = 65_534;

/// A kind of database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    PostgreSql,
    /// MariaDB, which stands for MySQL too.
    MariaDb,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 2] = [Kind::PostgreSql, Kind::MariaDb];

    /// Its name in the script.
    fn name(self) -> &'static str {
        match self {
            Kind::PostgreSql => "postgresql",
            Kind::MariaDb => "mariadb",
        }
    }

    /// Its name in Kea's configuration.
    pub fn backend(self) -> &'static str {
        match self {
            Kind::PostgreSql => "postgresql",
            Kind::MariaDb => "mysql",
        }
    }

    /// The libraries of Kea's that may be needed to use it: one for all purposes in Kea 3.0, in
    /// earlier versions one for configurations.
    pub(crate) fn libraries(self) -> [&'static str; 2] {
        match self {
            Kind::PostgreSql => ["libdhcp_pgsql.so", "libdhcp_pgsql_cb.so"],
            Kind::MariaDb => ["libdhcp_mysql.so", "libdhcp_mysql_cb.so"],
        }
    }
}

/// Makes a test of each function named, for each kind of database: `postgresql::name` and
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

/// A database server with the tables of Kea's databases; stopped, and its files removed, on drop.
#[derive(Debug)]
pub struct Database {
    /// What it is.
    kind: Kind,
    /// Where it listens.
    address: Ipv4Addr,
    /// The process, which stops the server when its standard input ends, so that none outlives
    /// the tests whatever ends them. `None` while stopped.
    process: Option<Child>,
    /// Everything the server writes.
    home: TempDir,
    /// Kept for the next test that needs a database.
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

    /// Starts the server on the files it left.
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
        assert!(ended.is_some(), "a database lives on:\n{}", self.log());
    }

    /// The server's log.
    pub fn log(&self) -> String {
        read(&self.log_file())
    }

    /// The file of the server's log.
    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Where the server runs.
    fn programs(&self) -> Programs<'_> {
        Programs::with_files_in(self.home.path())
    }

    /// The name of the server's container, if it runs in one.
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
            // Its files may go when it has ended; there is no more to be done if it does not.
            let _ = wait_for(PATIENCE, || process.try_wait().ok().flatten());
        }
    }
}

// ----- Using it -------------------------------------------------------------------------------

impl Database {
    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The access parameters, as in Kea's `lease-database`.
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

    /// Has the server carry out statements; the rows of their results, all values as text.
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
        // Results are small: the program never waits for its output to be read.
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

/// Files of a server that has never served, to be copied for each test.
#[derive(Debug)]
struct Template {
    /// The directory with the directory `data`.
    home: TempDir,
}

impl Template {
    /// The template for a kind of server: one for all tests that run, made for the first.
    #[track_caller]
    fn of(kind: Kind) -> Arc<Template> {
        static ALL: [Mutex<Weak<Template>>; 2] = [const { Mutex::new(Weak::new()) }; 2];
        // One test that fails to make it must not keep the others from trying.
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
            "{} cannot be set up; scripts/setup and scripts/images install what it takes.\n{}{}",
            kind.name(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        Template { home }
    }
}

/// The ways to run the script.
struct Programs<'a> {
    /// The directory a server has its files in.
    home: &'a Path,
    /// The image of the containers servers run in, if they do.
    image: Option<String>,
    /// The user and the group servers run as.
    user: (u32, u32),
}

impl<'a> Programs<'a> {
    /// With the server's files in `home`.
    fn with_files_in(home: &'a Path) -> Self {
        Programs {
            home,
            image: env::var("BLQ_DATABASE_IMAGE")
                .ok()
                .filter(|name| !name.is_empty()),
            user: unprivileged(),
        }
    }

    /// The script, in a container of a name or of none, or without a container.
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
        // Programs look up the name of their user, whom the image may not know.
        if getuid().as_raw() != 0 {
            command.args(["--volume", "/etc/passwd:/etc/passwd:ro"]);
        }
        // MariaDB keeps local times.
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

    /// The script, in a running container or without one.
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

    /// The script, without a container.
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

/// Who runs servers: the user and group of the tests, unless that is root.
fn unprivileged() -> (u32, u32) {
    match getuid().as_raw() {
        0 => (UNPRIVILEGED, UNPRIVILEGED),
        user => (user, getgid().as_raw()),
    }
}

/// A directory for a server's files, which is the server's.
fn new_home() -> TempDir {
    let home = tempfile::Builder::new()
        .prefix("kea-blq-database-")
        .tempdir()
        .expect("a temporary directory");
    let (user, group) = unprivileged();
    chown(home.path(), Some(user), Some(group)).expect("giving a directory away");
    home
}

/// The text of a log, as far as it is there.
fn read(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}
