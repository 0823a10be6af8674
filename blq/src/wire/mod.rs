//! DHCPv4 messages and their framing on a Bulk Leasequery connection.
//!
//! The numbers are shared with the plugin; the codec is not.

mod message;
mod option_names;

pub use message::{DecodeError, Message, TooLong, frame};
pub use option_names::{option_code, option_name};
pub use proto::message::{
    BOOTREPLY, BOOTREQUEST, CHADDR_LENGTH, FILE_LENGTH, HEADER_LENGTH, MAX_MESSAGE, SNAME_LENGTH,
};
pub use proto::option::{Lengths, code, lengths};
pub use proto::{
    InvalidVss, MessageType, State, StatusCode, Vss, data_source, hardware_type, port, sub_option,
};
