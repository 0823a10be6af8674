//! The `tracing` subscriber that writes to Kea's log.
//!
//! The field `id` of an event is its message identifier. The other fields follow the text, and then
//! those of the enclosing spans, the innermost first: the xid of the query, the peer of the
//! connection. As in Kea, the logging thread itself writes the line: no line is lost when the
//! process ends.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::log::catalogue;

/// The identifier of events without a known one.
const UNNAMED: &str = "BLQ_MESSAGE";

/// A destination of log lines.
pub trait Sink: Send + Sync + 'static {
    /// Whether a line of this level would be written.
    fn is_enabled(&self, level: Level) -> bool;
    /// Writes a line.
    fn write(&self, level: Level, id: &'static str, text: &str);
}

/// Returns a subscriber that passes this crate's events on to `sink`, with the fields of their spans.
pub fn to(sink: impl Sink) -> impl Subscriber + Send + Sync {
    Registry::default().with(Forward(sink))
}

/// The layer that passes this crate's events on to a sink.
struct Forward<S>(S);

/// The fields of a span, as they follow the text of its events.
struct SpanFields(String);

/// Whether a span or an event belongs to this crate. Events of other crates have no identifiers,
/// and are not logged.
fn is_own(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
}

impl<S, R> Layer<R> for Forward<S>
where
    S: Sink,
    R: Subscriber + for<'a> LookupSpan<'a>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if !is_own(metadata) {
            Interest::never()
        } else if metadata.is_span() {
            Interest::always()
        } else {
            // Not cached: Kea's levels change with its configuration.
            Interest::sometimes()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, R>) -> bool {
        is_own(metadata) && (metadata.is_span() || self.0.is_enabled(*metadata.level()))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, R>) {
        let mut line = Line::default();
        attributes.record(&mut line);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(line.text));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, R>) {
        let mut line = Line::default();
        event.record(&mut line);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                line.text.push_str(fields);
            }
        }
        let id = line.id.unwrap_or(UNNAMED);
        self.0.write(*event.metadata().level(), id, &line.text);
    }
}

/// A log line being built.
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
        // Fails only if the formatting of the value fails. The value is then incomplete.
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

/// Writes on one line: octets from a client must not look like another message.
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

    /// A line as the sink receives it.
    type Written = (Level, &'static str, String);

    /// A sink that collects the lines from INFO on.
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

    /// Returns the lines written while `body` runs.
    fn written(body: impl FnOnce()) -> Vec<Written> {
        let kept = Kept::default();
        tracing::subscriber::with_default(to(kept.clone()), body);
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
    fn writes_the_fields_of_the_spans_around_an_event() {
        let lines = written(|| {
            let _connection = tracing::info_span!("connection", peer = "192.0.2.1").entered();
            tracing::info_span!("query", xid = 7).in_scope(|| tracing::info!("a"));
            tracing::info!(count = 2, "b");
        });
        let texts: Vec<_> = lines.iter().map(|(_, _, text)| &**text).collect();
        assert_eq!(
            texts,
            ["a xid=7 peer=192.0.2.1", "b count=2 peer=192.0.2.1"]
        );
    }

    #[test]
    fn writes_an_event_without_a_known_identifier() {
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
    fn omits_events_that_are_disabled_or_of_other_crates() {
        let lines = written(|| {
            tracing::debug!("a");
            tracing::error!(target: "mio::poll", "b");
        });
        assert_eq!(lines, []);
    }
}
