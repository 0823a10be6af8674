//! DHCPv4 messages as they stand on a Bulk Leasequery connection.

mod codes;
mod message;
mod vss;

pub use codes::{MessageType, State, StatusCode, code, option_code, option_name, sub_option};
pub use message::{
    BOOTREPLY, BOOTREQUEST, CHADDR_LENGTH, DecodeError, HEADER_LENGTH, MAX_MESSAGE, Message,
    TooLong, frame,
};
pub use vss::{InvalidVss, Vss};
