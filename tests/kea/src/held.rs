//! Keeping Kea's main thread from doing anything, while its other threads go on.

use std::fs;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde_json::{Value, json};

use crate::{Kea, control, eventually};

/// A server whose main thread waits until this is dropped: for a reader of the pipe into which it was
/// commanded to write its configuration.
#[derive(Debug)]
pub struct Held {
    /// The pipe.
    pipe: PathBuf,
    /// Awaits the answer to the command.
    command: Option<JoinHandle<()>>,
}

impl Kea {
    /// Holds the server's main thread.
    #[track_caller]
    pub fn hold(&self) -> Held {
        // Beside its own configuration file: later versions of Kea write nowhere else.
        let pipe = self.home().join("held.json");
        let _ = fs::remove_file(&pipe);
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &pipe, FileType::Fifo, mode, 0).expect("a pipe");
        let before = self.commands_received();
        let socket = self.control_socket();
        let command = json!({
            "command": "config-write",
            "arguments": { "filename": pipe.display().to_string() },
        });
        let command = thread::spawn(move || {
            // Without an answer if the server ends meanwhile.
            let _: Result<Value, _> = control::send(&socket, &command);
        });
        // It does nothing else before it has carried out the command.
        eventually("the command", || self.commands_received() > before);
        Held {
            pipe,
            command: Some(command),
        }
    }

    /// How often it was commanded to write its configuration.
    fn commands_received(&self) -> usize {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains("COMMAND_RECEIVED"));
        lines.filter(|line| line.contains("config-write")).count()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What it writes fits into the pipe, which must be open for reading until it has. Without waiting
        // for it: the server may be gone.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let _reader = rustix::fs::open(&self.pipe, flags, Mode::empty());
        if let Some(command) = self.command.take() {
            let _ = command.join();
        }
    }
}
