//! Active queries: from a DHCPACTIVELEASEQUERY to a stream of changes (RFC 7724).
//!
//! - `request`: checking a query.
//! - `permission`: whether the server and the connection permit active queries.
//! - `answer`: the stream, from the changes of the mirror to framed messages.
//! - `status`: DHCPLEASEQUERYSTATUS messages.

mod answer;
mod permission;
mod request;
mod status;

pub use answer::{Answer, Opening};
pub use permission::Permission;
pub use request::{Query, read};
