//! From `tracing` to Kea's log.
//!
//! An event carries its message identifier in the field `id`; the other fields follow the text.
//! Kea writes its log lines in the thread that logs, and so do we: no line is lost when the
//! process ends, and none waits for another thread.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::log::catalogue;

/// The identifier of an event that names none known.
const UNNAMED: &str = "BLQ_MESSAGE";

/// Where log lines go.
pub trait Sink: Send + Sync + 'static {
    /// Whether a line of this level would be written.
    fn is_enabled(&self, level: Level) -> bool;
    /// Writes a line.
    fn write(&self, level: Level, id: &'static str, text: &str);
}

/// Passes this crate's events on to a sink.
#[derive(Debug)]
pub struct Forward<S>(pub S);

/// Whether events from there are ours to log. Those of the crates we use are not: their messages
/// have no identifiers.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
}

impl<S: Sink> Subscriber for Forward<S> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_ours(metadata) {
            // Kea's levels change with its configuration: ask each time.
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata) && self.0.is_enabled(*metadata.level())
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let id = line.id.unwrap_or(UNNAMED);
        self.0.write(*event.metadata().level(), id, &line.text);
    }

    // Spans are not used.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A log line being put together.
#[derive(Default)]
struct Line {
    /// The message identifier.
    id: Option<&'static str>,
    /// The message, then the other fields.
    text: String,
}

impl Line {
    /// Appends a field's value.
    fn append(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string fails only if a value's own formatting does: then it stays as far
        // as it came.
        let _ = match field.name() {
            "message" => {
                let rest = std::mem::take(&mut self.text);
                write!(OneLine(&mut self.text), "{value}").map(|()| self.text.push_str(&rest))
            }
            name => write!(OneLine(&mut self.text), " {name}={value}"),
        };
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "id" {
            self.id = catalogue::find(value).map(|message| message.id);
        } else {
            self.append(field, format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.append(field, format_args!("{value:?}"));
    }
}

/// Writes on one line: what a client sends must not look like another message.
struct OneLine<'a>(&'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() {
                self.0.extend(character.escape_default());
            } else {
                self.0.push(character);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// A line as the sink gets it.
    type Written = (Level, &'static str, String);

    /// Keeps what is written, from INFO on.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Written>>>);

    impl Sink for Kept {
        fn is_enabled(&self, level: Level) -> bool {
            level <= Level::INFO
        }
        fn write(&self, level: Level, id: &'static str, text: &str) {
            self.0.lock().push((level, id, text.to_owned()));
        }
    }

    /// What is written while `body` runs.
    fn written(body: impl FnOnce()) -> Vec<Written> {
        let kept = Kept::default();
        tracing::subscriber::with_default(Forward(kept.clone()), body);
        kept.0.lock().clone()
    }

    #[test]
    fn writes_the_text_under_the_identifier_with_the_fields_after_it() {
        let lines = written(|| {
            tracing::info!(id = "BLQ_LISTENING", port = 67, "listening on {}", "[::]");
        });
        assert_eq!(
            lines,
            [(
                Level::INFO,
                "BLQ_LISTENING",
                "listening on [::] port=67".to_owned()
            )]
        );
    }

    #[test]
    fn writes_an_event_without_a_known_identifier_all_the_same() {
        let lines = written(|| {
            tracing::error!("a");
            tracing::warn!(id = "BLQ_NO_SUCH_MESSAGE", "b");
        });
        let ids: Vec<_> = lines.iter().map(|(_, id, _)| *id).collect();
        assert_eq!(ids, [UNNAMED, UNNAMED]);
    }

    #[test]
    fn keeps_a_message_on_one_line() {
        let lines = written(|| tracing::info!("host {}", "a\n2026 ERROR"));
        assert_eq!(lines[0].2, "host a\\n2026 ERROR");
    }

    #[test]
    fn leaves_out_what_is_not_enabled_and_what_is_not_ours() {
        let lines = written(|| {
            tracing::debug!("a");
            tracing::error!(target: "mio::poll", "b");
        });
        assert_eq!(lines, []);
    }
}
