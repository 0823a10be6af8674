//! DHCP options, read from a message.

use std::borrow::Cow;
use std::fmt;

use proto::option::code;

use crate::wire::reader::{Reader, Truncated};

/// Capacity for the options of a usual message.
const USUALLY_AT_MOST: usize = 16;

/// An iterator over options or sub-options, each of which has a code, a length and a value.
///
/// Ends after the last one, or with [`PastEnd`] at one whose length runs past the end.
#[derive(Clone, Debug)]
pub struct Tlvs<'a> {
    /// The octets after the last one read.
    reader: Reader<'a>,
    /// Whether PAD and END have their meaning in a message; in option 82 they are sub-option codes like
    /// others (RFC 3046 section 2.0).
    pad_and_end: bool,
}

impl<'a> Tlvs<'a> {
    /// Iterates over the options of a message: skips PAD, stops at END.
    pub fn options(octets: &'a [u8]) -> Tlvs<'a> {
        Tlvs {
            reader: Reader::new(octets),
            pad_and_end: true,
        }
    }

    /// Iterates over the sub-options of an option.
    pub fn sub_options(octets: &'a [u8]) -> Tlvs<'a> {
        Tlvs {
            reader: Reader::new(octets),
            pad_and_end: false,
        }
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<(u8, &'a [u8]), PastEnd>;

    fn next(&mut self) -> Option<Self::Item> {
        let code = loop {
            match self.reader.u8().ok()? {
                code::PAD if self.pad_and_end => {}
                code::END if self.pad_and_end => {
                    self.reader = Reader::new(&[]);
                    return None;
                }
                code => break code,
            }
        };
        let length = self.reader.u8();
        let value = length.and_then(|length| self.reader.octets(length.into()));
        if value.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(match value {
            Ok(value) => Ok((code, value)),
            Err(Truncated) => Err(PastEnd(code)),
        })
    }
}

/// The option or sub-option, by its code, whose length runs past the end of the octets that hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastEnd(pub u8);

/// A field of a message that holds options (RFC 2131 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "RFC 2131 section 2 says what each field is")]
pub enum Field {
    Options,
    File,
    Sname,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Options => "options",
            Field::File => "file",
            Field::Sname => "sname",
        })
    }
}

/// Reasons for which the options of a message cannot be read to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsFault {
    /// An option runs past the end of its field, so the start of the next one is unknown.
    PastEnd(PastEnd, Field),
    /// The option-overload option is not one octet from 1 to 3 (RFC 2132 section 9.3), or appears more than
    /// once, so the fields that hold options are unknown.
    Overload,
}

impl fmt::Display for OptionsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionsFault::PastEnd(PastEnd(code), field) => {
                write!(f, "option {code} runs past the end of the {field} field")
            }
            OptionsFault::Overload => {
                f.write_str("option-overload must appear once, with a value of 1, 2 or 3")
            }
        }
    }
}

/// An option of a message, its parts joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedOption<'a> {
    /// The option's code.
    pub code: u8,
    /// The value: the values of all occurrences, joined in order (RFC 3396 section 7). Borrowed from the
    /// message if there is one occurrence.
    pub value: Cow<'a, [u8]>,
    /// How many times the code occurred.
    pub occurrences: usize,
}

/// The options of a message in the order of their first occurrence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options<'a>(Vec<JoinedOption<'a>>);

impl<'a> Options<'a> {
    /// Reads the options field of a message, then its file and sname fields if option 52 declares that they
    /// hold options (in the order of RFC 3396 section 5). Returns the options before the first fault, and the
    /// fault.
    pub fn read_until_fault(
        options: &'a [u8],
        file: &'a [u8],
        sname: &'a [u8],
    ) -> (Options<'a>, Option<OptionsFault>) {
        let mut read = Options(Vec::with_capacity(USUALLY_AT_MOST));
        let fault = read.fill(options, file, sname).err();
        (read, fault)
    }

    /// Adds the options of all fields, up to the first fault.
    fn fill(
        &mut self,
        options: &'a [u8],
        file: &'a [u8],
        sname: &'a [u8],
    ) -> Result<(), OptionsFault> {
        self.extend(options, Field::Options)?;
        let overload = self.overload()?;
        if overload & 1 != 0 {
            self.extend(file, Field::File)?;
        }
        if overload & 2 != 0 {
            self.extend(sname, Field::Sname)?;
        }
        // The option belongs into the options field alone.
        self.overload().map(drop)
    }

    /// Adds the options of one field, up to one that runs past its end.
    fn extend(&mut self, octets: &'a [u8], field: Field) -> Result<(), OptionsFault> {
        for option in Tlvs::options(octets) {
            let (code, value) =
                option.map_err(|past_end| OptionsFault::PastEnd(past_end, field))?;
            match self.0.iter_mut().find(|known| known.code == code) {
                Some(known) => {
                    known.value.to_mut().extend_from_slice(value);
                    known.occurrences += 1;
                }
                None => self.0.push(JoinedOption {
                    code,
                    value: value.into(),
                    occurrences: 1,
                }),
            }
        }
        Ok(())
    }

    /// Returns the value of option 52, which declares the other fields that hold options: 1 for file, 2 for
    /// sname, 3 for both; 0 without the option.
    fn overload(&self) -> Result<u8, OptionsFault> {
        match self.get(code::OVERLOAD) {
            None => Ok(0),
            Some(option) => match *option.value {
                [fields @ 1..=3] if option.occurrences == 1 => Ok(fields),
                _ => Err(OptionsFault::Overload),
            },
        }
    }

    /// Returns the option `code`.
    pub fn get(&self, code: u8) -> Option<&JoinedOption<'a>> {
        self.0.iter().find(|option| option.code == code)
    }

    /// Iterates over all options.
    pub fn iter(&self) -> impl Iterator<Item = &JoinedOption<'a>> {
        self.0.iter()
    }

    /// Returns the value of the option `code`.
    pub fn value(&self, code: u8) -> Option<&[u8]> {
        self.get(code).map(|option| &*option.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads options without a fault.
    fn read<'a>(
        options: &'a [u8],
        file: &'a [u8],
        sname: &'a [u8],
    ) -> Result<Options<'a>, OptionsFault> {
        let (read, fault) = Options::read_until_fault(options, file, sname);
        fault.map_or(Ok(read), Err)
    }

    #[test]
    fn joins_the_parts_of_a_long_option() {
        let field = [82, 2, 1, 2, 0, 61, 1, 9, 82, 1, 3, 255, 82, 1, 4];
        let options = read(&field, &[], &[]).unwrap();
        assert_eq!(options.value(82), Some(&[1, 2, 3][..]));
        assert_eq!(options.get(82).unwrap().occurrences, 2);
        assert_eq!(options.value(61), Some(&[9][..]));
    }

    #[test]
    fn reads_overloaded_fields_in_the_order_of_rfc_3396_section_5() {
        let options = read(&[52, 1, 3, 60, 1, 1], &[60, 1, 2], &[60, 1, 3]).unwrap();
        assert_eq!(options.value(60), Some(&[1, 2, 3][..]));
        let options = read(&[52, 1, 2, 60, 1, 1], &[60, 1, 2], &[60, 1, 3]).unwrap();
        assert_eq!(options.value(60), Some(&[1, 3][..]));
    }

    #[test]
    fn refuses_an_option_that_runs_past_the_end() {
        let fault = OptionsFault::PastEnd(PastEnd(61), Field::Options);
        assert_eq!(read(&[61, 3, 1, 2], &[], &[]), Err(fault));
        assert_eq!(read(&[61], &[], &[]), Err(fault));
        // Of fields that hold no options by option 52, none is read.
        assert!(read(&[52, 1, 2], &[61], &[]).is_ok());
        let fault = OptionsFault::PastEnd(PastEnd(61), Field::File);
        assert_eq!(read(&[52, 1, 3], &[61, 1], &[61]), Err(fault));
        let fault = OptionsFault::PastEnd(PastEnd(61), Field::Sname);
        assert_eq!(read(&[52, 1, 3], &[], &[61, 1]), Err(fault));
    }

    #[test]
    fn keeps_the_options_in_front_of_the_first_fault_alone() {
        let (read, fault) =
            Options::read_until_fault(&[53, 1, 14, 52, 1, 3, 61, 9, 1], &[60, 1, 1], &[60, 1, 2]);
        assert_eq!(
            fault,
            Some(OptionsFault::PastEnd(PastEnd(61), Field::Options))
        );
        let codes: Vec<u8> = read.iter().map(|option| option.code).collect();
        assert_eq!(codes, [53, 52]);
        let (read, fault) =
            Options::read_until_fault(&[53, 1, 14, 52, 1, 3], &[60, 1, 1, 61], &[12, 1, 2]);
        assert_eq!(fault, Some(OptionsFault::PastEnd(PastEnd(61), Field::File)));
        assert_eq!(read.value(60), Some(&[1][..]));
        assert_eq!(read.value(12), None);
    }

    #[test]
    fn refuses_an_overload_that_cannot_be_understood() {
        for (options, file) in [
            (&[52, 0][..], &[][..]),
            (&[52, 1, 0], &[]),
            (&[52, 1, 4], &[]),
            (&[52, 1, 255], &[]),
            (&[52, 2, 1, 1], &[]),
            (&[52, 1, 1, 52, 1, 1], &[]),
            (&[52, 1, 1, 52, 0], &[]),
            (&[52, 1, 1], &[52, 1, 2]),
        ] {
            let read = read(options, file, &[]);
            assert_eq!(read, Err(OptionsFault::Overload), "{options:?}, {file:?}");
        }
    }

    #[test]
    fn accepts_options_without_an_end() {
        let options = read(&[53, 1, 14], &[], &[]).unwrap();
        assert_eq!(options.value(53), Some(&[14][..]));
    }

    #[test]
    fn reads_sub_options_0_and_255_like_any_other() {
        let read: Vec<_> = Tlvs::sub_options(&[0, 1, 7, 255, 0]).collect();
        assert_eq!(read, [Ok((0, &[7][..])), Ok((255, &[][..]))]);
    }
}
