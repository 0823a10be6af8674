//! Text that a server controls, made safe for terminals and logs.

use std::fmt::{self, Write};

use unicode_width::UnicodeWidthChar;

/// Returns `text` for a terminal or a log: on one line, with each character that is invisible or that
/// changes the text around it as an escape sequence, such as `\u{202e}`.
///
/// ```
/// use blq::text::escape;
///
/// assert_eq!(escape("caf\u{e9} \u{202e}\n").to_string(), "caf\u{e9} \\u{202e}\\n");
/// ```
pub fn escape(text: &str) -> impl fmt::Display + '_ {
    Escaped(text)
}

/// Whether a terminal shows `character` as it is, and in its place.
///
/// The others are controls, formatting characters (bidirectional ones among them), separators,
/// combining marks, unassigned and private characters, characters without width or ink, and those of
/// scripts that run from right to left, which reorder the digits and signs beside them.
pub fn is_plain(character: char) -> bool {
    // The standard library escapes every category that cannot be printed.
    let mut escaped = character.escape_debug();
    let is_printable =
        matches!(character, '\'' | '"' | '\\') || escaped.len() == 1 && escaped.next().is_some();
    is_printable
        && character.width().is_some_and(|width| width > 0)
        && !is_blank(character)
        && !is_right_to_left(character)
}

/// Whether `character` is a letter or symbol without ink: the Hangul fillers and the empty Braille
/// pattern.
fn is_blank(character: char) -> bool {
    matches!(
        character,
        '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}'
    )
}

/// Whether `character` is in a block whose characters run from right to left by default (Unicode
/// Standard Annex 9, table 4).
fn is_right_to_left(character: char) -> bool {
    matches!(
        character,
        '\u{590}'..='\u{8ff}'
            | '\u{fb1d}'..='\u{fdff}'
            | '\u{fe70}'..='\u{feff}'
            | '\u{10800}'..='\u{10fff}'
            | '\u{1e800}'..='\u{1efff}'
    )
}

/// Text with its characters escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\n' | '\r' | '\t' => write!(f, "{}", character.escape_default())?,
                _ if is_plain(character) => f.write_char(character)?,
                _ => write!(f, "{}", character.escape_unicode())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Controls, bidirectional formatting, invisible and zero-width characters, separators,
    /// combining marks, right-to-left letters, private and unassigned characters, tags.
    const UNSAFE: &[std::ops::RangeInclusive<char>] = &[
        '\0'..='\u{1f}',
        '\u{7f}'..='\u{a0}',
        '\u{ad}'..='\u{ad}',
        '\u{300}'..='\u{36f}',
        '\u{5be}'..='\u{61c}',
        '\u{115f}'..='\u{1160}',
        '\u{180b}'..='\u{180f}',
        '\u{2000}'..='\u{200f}',
        '\u{2028}'..='\u{202f}',
        '\u{205f}'..='\u{206f}',
        '\u{2800}'..='\u{2800}',
        '\u{3000}'..='\u{3000}',
        '\u{3164}'..='\u{3164}',
        '\u{e000}'..='\u{f8ff}',
        '\u{fe00}'..='\u{fe0f}',
        '\u{feff}'..='\u{feff}',
        '\u{ffa0}'..='\u{ffa0}',
        '\u{fff9}'..='\u{fffb}',
        '\u{1bca0}'..='\u{1bca3}',
        '\u{1d173}'..='\u{1d17a}',
        '\u{e0000}'..='\u{e0fff}',
        '\u{10fffe}'..='\u{10ffff}',
    ];

    /// RFC 6926 section 6.2.2: a status message is any UTF-8.
    #[test]
    fn escapes_characters_that_are_invisible_or_move_others() {
        for character in UNSAFE.iter().cloned().flatten() {
            assert!(!is_plain(character), "{}", character.escape_unicode());
        }
        assert_eq!(
            escape("\u{1b}[2J\r\nA\u{202e}B\u{200b}").to_string(),
            "\\u{1b}[2J\\r\\nA\\u{202e}B\\u{200b}"
        );
    }

    #[test]
    fn keeps_text_that_shows_as_it_is() {
        for text in [
            "no bindings: `start` > \"end\", it's \\ 100%",
            "Gr\u{fc}n \u{2014} \u{4e2d}\u{6587} \u{fffd}",
        ] {
            assert_eq!(escape(text).to_string(), text);
        }
        assert!((' '..='~').all(is_plain));
    }

    proptest! {
        /// Any text is printed on one line of visible characters.
        #[test]
        fn prints_plain_characters_alone(text in any::<String>()) {
            prop_assert!(escape(&text).to_string().chars().all(is_plain));
        }
    }
}
