//! The `blq` command with `--since-file`: the start to go on from, kept from run to run.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::mpsc;

use blq::Message;
use common::{BASE_TIME, Server, active, answering, command, done, failed, run, stderr, stdout};

/// A directory with a file that does not exist yet.
struct Files {
    /// The directory.
    directory: tempfile::TempDir,
    /// The file.
    path: PathBuf,
}

impl Files {
    /// Creates the directory.
    fn new() -> Files {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("since");
        Files { directory, path }
    }

    /// Returns the arguments with the file.
    fn with<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--since-file", self.path.to_str().unwrap()], arguments].concat()
    }

    /// Returns the contents of the file.
    fn contents(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }
}

/// A server on one address for several runs.
struct Runs {
    /// The listener, cloned for each run.
    listener: std::net::TcpListener,
}

impl Runs {
    /// Listens.
    fn new() -> Runs {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        Runs { listener }
    }

    /// Runs the command once against a server that answers with these messages, and returns the
    /// command's output and query.
    fn run(
        &self,
        arguments: &[&str],
        messages: impl FnOnce(u32) -> Vec<Message> + Send + 'static,
    ) -> (Output, Message) {
        let (sender, receiver) = mpsc::channel();
        let listener = self.listener.try_clone().unwrap();
        let server = Server::start_on(listener, move |mut peer| {
            let query = peer.read();
            peer.send(&messages(query.xid));
            sender.send(query).unwrap();
        });
        let output = run(server, arguments);
        (output, receiver.recv().unwrap())
    }
}

/// Returns a complete answer from a server whose query began at `base_time`.
fn complete(base_time: u32) -> impl FnOnce(u32) -> Vec<Message> + Send + 'static {
    move |xid| {
        let done = done(xid).with(152, base_time.to_be_bytes());
        vec![active(xid, 1), done]
    }
}

/// RFC 6926 section 6.2.5: each run asks for the changes since the one before.
#[test]
fn goes_on_from_the_last_complete_answer() {
    let (files, runs) = (Files::new(), Runs::new());
    let arguments = files.with(&["--relay-id", "0x01"]);
    let (output, query) = runs.run(&arguments, complete(BASE_TIME - 5));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(query.option(154), None);
    let (output, query) = runs.run(&arguments, complete(BASE_TIME - 3));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        query.option(154),
        Some((BASE_TIME - 5).to_be_bytes().to_vec())
    );
    let (_, query) = runs.run(&arguments, complete(BASE_TIME));
    assert_eq!(
        query.option(154),
        Some((BASE_TIME - 3).to_be_bytes().to_vec())
    );
    assert_eq!(fs::read_dir(files.directory.path()).unwrap().count(), 1);
}

/// RFC 6926 section 7.8: an incomplete answer lacks changes.
#[test]
fn keeps_the_file_after_an_incomplete_answer() {
    let (files, runs) = (Files::new(), Runs::new());
    let incomplete = |xid: u32| vec![active(xid, 1), failed(xid, 2, "reload")];
    let (output, _) = runs.run(&files.with(&[]), incomplete);
    assert_eq!(output.status.code(), Some(1));
    assert!(!files.path.exists());

    runs.run(&files.with(&[]), complete(BASE_TIME - 5));
    let before = files.contents();
    for code in [1, 2, 3, 4] {
        let (output, _) = runs.run(&files.with(&[]), move |xid| {
            vec![
                active(xid, 1),
                failed(xid, code, "").with(152, BASE_TIME.to_be_bytes()),
            ]
        });
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("is unchanged"),
            "{}",
            stderr(&output)
        );
        assert_eq!(files.contents(), before);
    }
    let (output, _) = runs.run(&files.with(&[]), |xid| vec![active(xid, 1)]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(files.contents(), before);
}

/// A reader of the output that ends early has not taken the whole answer.
#[test]
fn keeps_the_file_when_the_output_was_not_read() {
    let files = Files::new();
    let server = Server::start(|mut peer| {
        let xid = peer.read().xid;
        let frame = active(xid, 1).to_frame().unwrap();
        let mut bindings = frame.repeat(20_000);
        bindings.extend(done(xid).to_frame().unwrap());
        let _ = peer.stream.write_all(&bindings);
    });
    let mut child = command(&server, &files.with(&[]))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr(&output).contains("is unchanged"),
        "{}",
        stderr(&output)
    );
    assert!(!files.path.exists());
    server.join();
}

/// Runs the command without a server, which it must not need.
fn refused(path: &Path, server: &str, arguments: &[&str]) -> String {
    let output =
        common::run_alone(&[&[server, "--since-file", path.to_str().unwrap()], arguments].concat());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    stderr(&output).to_string()
}

#[test]
fn refuses_files_that_are_damaged_or_of_another_query() {
    let (files, runs) = (Files::new(), Runs::new());
    runs.run(
        &files.with(&["--relay-id", "0x01"]),
        complete(BASE_TIME - 5),
    );
    let good = files.contents();
    let server = runs.listener.local_addr().unwrap().to_string();
    let name = files.path.display().to_string();

    for (server, arguments, reason) in [
        (
            server.as_str(),
            &["--relay-id", "0x02"][..],
            "is of the query",
        ),
        (&server, &["--remote-id", "0x01"], "is of the query"),
        (
            &server,
            &["--relay-id", "0x01", "--all-vpns"],
            "is of the query",
        ),
        ("127.0.0.1:1", &["--relay-id", "0x01"], "is of the server"),
        ("localhost", &["--relay-id", "0x01"], "is of the server"),
    ] {
        let error = refused(&files.path, server, arguments);
        for part in [name.as_str(), reason, "remove this one", "unchanged"] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
        assert_eq!(files.contents(), good);
    }

    let start = (BASE_TIME - 5).to_string();
    for damaged in [
        String::new(),
        good[..good.len() / 2].to_string(),
        good.replace(&start, &(BASE_TIME - 4).to_string()),
        good.replace("since-file 1", "since-file 2"),
        "{}".to_string(),
        "\u{202e}".to_string(),
    ] {
        fs::write(&files.path, &damaged).unwrap();
        let error = refused(&files.path, &server, &["--relay-id", "0x01"]);
        for part in [name.as_str(), "damaged", "remove this one", "unchanged"] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
        assert!(
            error.chars().all(|c| c == '\n' || (' '..='~').contains(&c)),
            "{error}"
        );
        assert_eq!(files.contents(), damaged);
    }
    let error = refused(files.directory.path(), &server, &[]);
    assert!(error.contains("it is no file"), "{error}");
    let error = refused(&files.directory.path().join("no/file"), &server, &[]);
    assert!(error.contains("no/file: "), "{error}");
}

/// A name may lead to another server, whose clock and changes differ.
#[test]
fn refuses_the_answer_of_another_server() {
    let (files, runs) = (Files::new(), Runs::new());
    let from = |last: u8| {
        move |xid| {
            let first = active(xid, 1).with(54, [192, 0, 2, last]);
            vec![first, done(xid).with(152, (BASE_TIME - 5).to_be_bytes())]
        }
    };
    runs.run(&files.with(&[]), from(1));
    let before = files.contents();
    let (output, _) = runs.run(&files.with(&[]), from(2));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).contains("it is of the server with identifier 192.0.2.1, not 192.0.2.2"),
        "{}",
        stderr(&output)
    );
    assert_eq!(files.contents(), before);
    let (output, _) = runs.run(&files.with(&[]), from(1));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// Without a base-time no start is known: the next run would silently begin anew.
#[test]
fn fails_without_a_start_to_go_on_from() {
    let files = Files::new();
    let output = run(
        answering(|xid| {
            vec![
                Message {
                    options: vec![(53, vec![13])],
                    ..active(xid, 1)
                },
                done(xid),
            ]
        }),
        &files.with(&[]),
    );
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("not written: the server sent no base-time"));
    assert!(!files.path.exists());
}
