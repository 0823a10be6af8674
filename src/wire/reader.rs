//! The reader of octets that peers send.

/// The input has fewer octets than required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// Reads octets in order and never past their end.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The octets after the last one read.
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Returns a reader at the start of `octets`.
    pub fn new(octets: &'a [u8]) -> Reader<'a> {
        Reader { rest: octets }
    }

    /// Whether all octets were read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the octets after the last one read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next `count` octets.
    pub fn octets(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads the next `N` octets as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads the next octet.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(u8::from_be_bytes)
    }

    /// Reads the next two octets, in network byte order.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// Reads the next four octets, in network byte order.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }
}
