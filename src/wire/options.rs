//! DHCP options: their codes, and reading them from a message.

use std::borrow::Cow;
use std::fmt;

use crate::wire::reader::{Reader, Truncated};

/// As many different options as a message usually has at most.
const USUALLY_AT_MOST: usize = 16;

/// Option codes this server knows by name.
pub mod code {
    /// Padding, one octet without a length.
    pub const PAD: u8 = 0;
    /// The client's subnet mask (RFC 2132 section 3.3).
    pub const SUBNET_MASK: u8 = 1;
    /// The client's host name (RFC 2132 section 3.14).
    pub const HOST_NAME: u8 = 12;
    /// Vendor-specific information (RFC 2132 section 8.4).
    pub const VENDOR_SPECIFIC: u8 = 43;
    /// Remaining lease time (RFC 2132 section 9.2, RFC 4388 section 6.4.2).
    pub const LEASE_TIME: u8 = 51;
    /// Option overload (RFC 2132 section 9.3).
    pub const OVERLOAD: u8 = 52;
    /// dhcp-message-type (RFC 2132 section 9.6).
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier (RFC 2132 section 9.7).
    pub const SERVER_IDENTIFIER: u8 = 54;
    /// dhcp-parameter-request-list (RFC 2132 section 9.8).
    pub const PARAMETER_REQUEST_LIST: u8 = 55;
    /// Maximum DHCP message size (RFC 2132 section 9.10).
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    /// Renewal (T1) time value (RFC 2132 section 9.11).
    pub const RENEWAL_TIME: u8 = 58;
    /// Rebinding (T2) time value (RFC 2132 section 9.12).
    pub const REBINDING_TIME: u8 = 59;
    /// Vendor class identifier (RFC 2132 section 9.13).
    pub const VENDOR_CLASS: u8 = 60;
    /// Client-identifier (RFC 2132 section 9.14).
    pub const CLIENT_IDENTIFIER: u8 = 61;
    /// User class (RFC 3004).
    pub const USER_CLASS: u8 = 77;
    /// Client FQDN (RFC 4702).
    pub const CLIENT_FQDN: u8 = 81;
    /// Relay agent information (RFC 3046).
    pub const RELAY_AGENT_INFORMATION: u8 = 82;
    /// client-last-transaction-time (RFC 4388 section 6.1).
    pub const CLIENT_LAST_TRANSACTION_TIME: u8 = 91;
    /// associated-ip (RFC 4388 section 6.1), which must not appear in a Bulk Leasequery reply
    /// (RFC 6926 section 5).
    pub const ASSOCIATED_IP: u8 = 92;
    /// Client system architecture (RFC 4578).
    pub const CLIENT_ARCHITECTURE: u8 = 93;
    /// Client network interface identifier (RFC 4578).
    pub const CLIENT_NDI: u8 = 94;
    /// Client machine identifier, UUID/GUID (RFC 4578).
    pub const CLIENT_UUID: u8 = 97;
    /// Auto-configure (RFC 2563).
    pub const AUTO_CONFIGURE: u8 = 116;
    /// Vendor-identifying vendor class (RFC 3925).
    pub const VI_VENDOR_CLASS: u8 = 124;
    /// Vendor-identifying vendor-specific information (RFC 3925).
    pub const VI_VENDOR_SPECIFIC: u8 = 125;
    /// status-code (RFC 6926 section 6.2.2).
    pub const STATUS_CODE: u8 = 151;
    /// base-time (RFC 6926 section 6.2.3).
    pub const BASE_TIME: u8 = 152;
    /// start-time-of-state (RFC 6926 section 6.2.4).
    pub const START_TIME_OF_STATE: u8 = 153;
    /// query-start-time (RFC 6926 section 6.2.5).
    pub const QUERY_START_TIME: u8 = 154;
    /// query-end-time (RFC 6926 section 6.2.6).
    pub const QUERY_END_TIME: u8 = 155;
    /// dhcp-state (RFC 6926 section 6.2.7).
    pub const DHCP_STATE: u8 = 156;
    /// data-source (RFC 6926 section 6.2.8).
    pub const DATA_SOURCE: u8 = 157;
    /// VPN-ID: virtual subnet selection (RFC 6607 section 3.1).
    pub const VPN_ID: u8 = 221;
    /// The end of the options, one octet without a length.
    pub const END: u8 = 255;
}

/// Iterates over code, length and value, as options and sub-options both are laid out.
///
/// Ends after the last one, or with [`PastEnd`] at one whose length runs past the end.
#[derive(Clone, Debug)]
pub struct Tlvs<'a> {
    /// What follows the last one read.
    reader: Reader<'a>,
    /// Whether PAD and END mean what they mean in a message; in option 82 they are sub-option
    /// codes like others (RFC 3046 section 2.0).
    pad_and_end: bool,
}

impl<'a> Tlvs<'a> {
    /// Over the options of a message: skips PAD, stops at END.
    pub fn options(octets: &'a [u8]) -> Tlvs<'a> {
        Tlvs {
            reader: Reader::new(octets),
            pad_and_end: true,
        }
    }

    /// Over the sub-options of an option.
    pub fn sub_options(octets: &'a [u8]) -> Tlvs<'a> {
        Tlvs {
            reader: Reader::new(octets),
            pad_and_end: false,
        }
    }

    /// Reads length and value of `code`, which has been read.
    fn read(&mut self, code: u8) -> Result<(u8, &'a [u8]), PastEnd> {
        let mut value = || {
            let length = self.reader.u8()?;
            self.reader.octets(length.into())
        };
        match value() {
            Ok(value) => Ok((code, value)),
            Err(Truncated) => Err(PastEnd(code)),
        }
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<(u8, &'a [u8]), PastEnd>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let code = self.reader.u8().ok()?;
            match code {
                code::PAD if self.pad_and_end => continue,
                code::END if self.pad_and_end => {
                    self.reader = Reader::new(&[]);
                    return None;
                }
                _ => {}
            }
            let read = self.read(code);
            if read.is_err() {
                self.reader = Reader::new(&[]);
            }
            return Some(read);
        }
    }
}

/// The option or sub-option, by its code, whose length runs past the end of the octets that hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastEnd(pub u8);

impl From<PastEnd> for Truncated {
    fn from(_: PastEnd) -> Self {
        Truncated
    }
}

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

/// What keeps the options of a message from being read to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsFault {
    /// An option runs past the end of its field: where options behind it begin cannot be known.
    PastEnd(PastEnd, Field),
    /// The option-overload option is not one octet from 1 to 3 (RFC 2132 section 9.3), or appears
    /// more than once: which fields hold options cannot be known.
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
    /// The value: the values of all its occurrences one after the other (RFC 3396 section 7). Of the
    /// usual one it is the message's own octets.
    pub value: Cow<'a, [u8]>,
    /// How many times the code occurred.
    pub occurrences: usize,
}

/// The options of a message in the order of their first occurrence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options<'a>(Vec<JoinedOption<'a>>);

impl<'a> Options<'a> {
    /// Reads the options field of a message, then its file and sname fields where option 52
    /// says they hold options too (RFC 3396 section 5 gives that order).
    ///
    /// # Errors
    /// See [`Options::read_until_fault`].
    pub fn read(
        options: &'a [u8],
        file: &'a [u8],
        sname: &'a [u8],
    ) -> Result<Options<'a>, OptionsFault> {
        match Options::read_until_fault(options, file, sname) {
            (read, None) => Ok(read),
            (_, Some(fault)) => Err(fault),
        }
    }

    /// Reads the options in front of the first fault, if there is one, and says which it is.
    pub fn read_until_fault(
        options: &'a [u8],
        file: &'a [u8],
        sname: &'a [u8],
    ) -> (Options<'a>, Option<OptionsFault>) {
        let mut read = Options(Vec::with_capacity(USUALLY_AT_MOST));
        let fault = read.fill(options, file, sname).err();
        (read, fault)
    }

    /// Adds the options of all fields, as far as the first fault.
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

    /// Adds the options of one field, as far as one that runs past its end.
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

    /// Returns which fields hold options besides the options field: 1 for file, 2 for sname, 3 for
    /// both; 0 without the option that says so.
    fn overload(&self) -> Result<u8, OptionsFault> {
        match self.get(code::OVERLOAD) {
            None => Ok(0),
            Some(option) => match *option.value {
                [fields @ 1..=3] if option.occurrences == 1 => Ok(fields),
                _ => Err(OptionsFault::Overload),
            },
        }
    }

    /// The option `code`, if it is there.
    pub fn get(&self, code: u8) -> Option<&JoinedOption<'a>> {
        self.0.iter().find(|option| option.code == code)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &JoinedOption<'a>> {
        self.0.iter()
    }

    /// The value of option `code`, if it is there.
    pub fn value(&self, code: u8) -> Option<&[u8]> {
        self.get(code).map(|option| &*option.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_the_parts_of_a_long_option() {
        let field = [82, 2, 1, 2, 0, 61, 1, 9, 82, 1, 3, 255, 82, 1, 4];
        let options = Options::read(&field, &[], &[]).unwrap();
        assert_eq!(options.value(82), Some(&[1, 2, 3][..]));
        assert_eq!(options.get(82).unwrap().occurrences, 2);
        assert_eq!(options.value(61), Some(&[9][..]));
    }

    #[test]
    fn reads_overloaded_fields_in_the_order_of_rfc_3396_section_5() {
        let options = Options::read(&[52, 1, 3, 60, 1, 1], &[60, 1, 2], &[60, 1, 3]).unwrap();
        assert_eq!(options.value(60), Some(&[1, 2, 3][..]));
        let options = Options::read(&[52, 1, 2, 60, 1, 1], &[60, 1, 2], &[60, 1, 3]).unwrap();
        assert_eq!(options.value(60), Some(&[1, 3][..]));
    }

    #[test]
    fn refuses_an_option_that_runs_past_the_end() {
        let fault = OptionsFault::PastEnd(PastEnd(61), Field::Options);
        assert_eq!(Options::read(&[61, 3, 1, 2], &[], &[]), Err(fault));
        assert_eq!(Options::read(&[61], &[], &[]), Err(fault));
        // Of fields that hold no options by option 52, none is read.
        assert!(Options::read(&[52, 1, 2], &[61], &[]).is_ok());
        let fault = OptionsFault::PastEnd(PastEnd(61), Field::File);
        assert_eq!(Options::read(&[52, 1, 3], &[61, 1], &[61]), Err(fault));
        let fault = OptionsFault::PastEnd(PastEnd(61), Field::Sname);
        assert_eq!(Options::read(&[52, 1, 3], &[], &[61, 1]), Err(fault));
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
            let read = Options::read(options, file, &[]);
            assert_eq!(read, Err(OptionsFault::Overload), "{options:?}, {file:?}");
        }
    }

    #[test]
    fn accepts_options_without_an_end() {
        let options = Options::read(&[53, 1, 14], &[], &[]).unwrap();
        assert_eq!(options.value(53), Some(&[14][..]));
    }

    #[test]
    fn reads_sub_options_0_and_255_like_any_other() {
        let read: Vec<_> = Tlvs::sub_options(&[0, 1, 7, 255, 0]).collect();
        assert_eq!(read, [Ok((0, &[7][..])), Ok((255, &[][..]))]);
    }
}
