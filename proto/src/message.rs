//! The message: fixed fields (RFC 2131 section 2), framing for TCP (RFC 6926 section 6.1), limits.
//!
//! Offsets are octets from the beginning of a message without its message-size.

/// op of a message from a client, a relay agent or a requester.
pub const BOOTREQUEST: u8 = 1;
/// op of a message from a server.
pub const BOOTREPLY: u8 = 2;

/// Flag by which a client requests a broadcast reply; all other bits are reserved and zero.
pub const BROADCAST: u16 = 0x8000;

/// Offset of htype, one octet; hlen and hops follow, one octet each.
pub const HTYPE: usize = 1;
/// Offset of xid, four octets.
pub const XID: usize = 4;
/// Offset of flags, two octets.
pub const FLAGS: usize = 10;
/// Offset of ciaddr, four octets: in a leasequery reply, the address of the binding.
pub const CIADDR: usize = 12;
/// Offset of giaddr, four octets.
pub const GIADDR: usize = 24;
/// Offset of chaddr, [`CHADDR_LENGTH`] octets.
pub const CHADDR: usize = 28;
/// Offset of sname, [`SNAME_LENGTH`] octets.
pub const SNAME: usize = CHADDR + CHADDR_LENGTH;
/// Offset of file, [`FILE_LENGTH`] octets.
pub const FILE: usize = SNAME + SNAME_LENGTH;

/// Octets of chaddr, and the largest value of hlen.
pub const CHADDR_LENGTH: usize = 16;
/// Octets of sname.
pub const SNAME_LENGTH: usize = 64;
/// Octets of file.
pub const FILE_LENGTH: usize = 128;

/// Octets of the fixed fields, which precede the magic cookie.
pub const FIXED_FIELDS: usize = FILE + FILE_LENGTH;
/// The four octets that precede the options (RFC 2131 section 3).
pub const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Octets before the first option: the fixed fields and the magic cookie.
pub const HEADER_LENGTH: usize = FIXED_FIELDS + MAGIC_COOKIE.len();

/// Octets of message-size, which precedes each message on a TCP connection.
pub const MESSAGE_SIZE_LENGTH: usize = 2;
/// Octets of the longest message on a TCP connection, without its message-size.
pub const MAX_MESSAGE: usize = 65_535;
/// Octets of the longest value of one option; a longer one is split (RFC 3396 section 5).
pub const MAX_OPTION: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure of RFC 2131 section 2, added up.
    #[test]
    fn fields_follow_each_other_without_a_gap() {
        assert_eq!(XID, HTYPE + 3);
        assert_eq!(FLAGS, XID + 4 + 2);
        assert_eq!(CIADDR, FLAGS + 2);
        assert_eq!(GIADDR, CIADDR + 3 * 4);
        assert_eq!(CHADDR, GIADDR + 4);
        assert_eq!((SNAME, FILE), (44, 108));
        assert_eq!((FIXED_FIELDS, HEADER_LENGTH), (236, 240));
    }
}
