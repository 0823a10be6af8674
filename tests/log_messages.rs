//! `docs/log-messages.md`, generated from the catalogue of log messages.
//!
//! To update the page after a change of the catalogue:
//! `BLQ_WRITE_DOCS=1 cargo test --no-default-features --test log_messages`

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use dhcp_blq::log::catalogue::MESSAGES;

/// The page's beginning.
const HEAD: &str = "\
# Log messages

<!-- Generated from src/log/catalogue.rs by tests/log_messages.rs; do not edit. -->

The messages of `libdhcp_blq.so` in Kea's log, by identifier: the condition that causes each, and the
operator's action.
";

/// The longest line.
const WIDTH: usize = 110;

/// Renders the catalogue as Markdown.
fn page() -> String {
    let mut page = HEAD.to_owned();
    for message in MESSAGES {
        write!(page, "\n## {}\n", message.id).expect("memory");
        let text = message.text.replace("Action:", "**Action:**");
        for paragraph in text.split("\n\n") {
            write!(page, "\n{}\n", wrapped(paragraph)).expect("memory");
        }
    }
    page
}

/// Breaks a text into lines.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[test]
fn the_page_of_log_messages_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/log-messages.md");
    let page = page();
    if env::var_os("BLQ_WRITE_DOCS").is_some() {
        fs::write(&file, &page).expect("docs is writable");
    }
    let found = fs::read_to_string(&file).expect("docs/log-messages.md");
    assert!(
        found == page,
        "docs/log-messages.md differs from the catalogue; write it anew with \
         BLQ_WRITE_DOCS=1 cargo test --no-default-features --test log_messages"
    );
}

#[test]
fn a_long_text_is_broken_between_words() {
    let text = format!("{} bb {}", "a".repeat(WIDTH - 3), "c".repeat(WIDTH + 1));
    let lines: Vec<usize> = wrapped(&text).lines().map(str::len).collect();
    assert_eq!(lines, [WIDTH, WIDTH + 1]);
    assert_eq!(wrapped(&text).replace('\n', " "), text);
}
