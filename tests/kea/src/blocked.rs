//! Blocks Kea's main thread, while its other threads continue.

use std::fs;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde_json::{Value, json};

use crate::{Kea, control, eventually};

/// A server whose main thread is blocked until this is dropped: a command makes it write its
/// configuration to a pipe without a reader.
#[derive(Debug)]
pub struct BlockedMainThread {
    /// The pipe.
    pipe: PathBuf,
    /// The thread that awaits the answer to the command.
    command: Option<JoinHandle<()>>,
}

impl Kea {
    /// Blocks the server's main thread.
    #[track_caller]
    pub fn block_main_thread(&self) -> BlockedMainThread {
        // Beside Kea's configuration file: later versions of Kea write nowhere else.
        let pipe = self.home().join("blocked.json");
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
            // If the server ends first, there is no answer.
            let _: Result<Value, _> = control::send(&socket, &command);
        });
        // The main thread does nothing else until the command is done.
        eventually("the command", || self.commands_received() > before);
        BlockedMainThread {
            pipe,
            command: Some(command),
        }
    }

    /// Returns how many commands to write its configuration the server has received.
    fn commands_received(&self) -> usize {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains("COMMAND_RECEIVED"));
        lines.filter(|line| line.contains("config-write")).count()
    }
}

impl Drop for BlockedMainThread {
    fn drop(&mut self) {
        // The configuration fits into the pipe, which stays open for reading until it is written.
        // Opening does not wait for a writer: the server may have ended.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let _reader = rustix::fs::open(&self.pipe, flags, Mode::empty());
        if let Some(command) = self.command.take() {
            let _ = command.join();
        }
    }
}
