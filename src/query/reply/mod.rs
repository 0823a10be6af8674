//! Replies: from the projection of an address to a message (RFC 6926 section 8.3, RFC 4388 section
//! 6.4.2).
//!
//! - [`options`]: the options that a query asks for and its requester may receive.
//! - [`projection`]: the view that a requester has of an address.
//! - [`template`]: replies of one layout, from which others are made.
//!
//! Every reply can be written in full, option by option. Most replies resemble others and are made from
//! a template instead, which takes a fraction of the time and gives the same octets.

mod options;
mod projection;
mod template;

use std::net::Ipv4Addr;

use proto::message::MAX_MESSAGE;
use proto::option::code;
use proto::{MessageType, StatusCode, data_source};

use crate::model::time::Time;
use crate::model::vpn::Vpn;
pub use crate::query::reply::options::{Codes, ReplyOption, ReplyOptions, carry_base_time};
pub use crate::query::reply::projection::{Projection, Projector};
use crate::query::reply::template::{Layout, Template, Templates};
use crate::wire::writer::{MessageWriter, ReplyHeader};

/// Writes the replies to a query.
#[derive(Debug)]
pub struct Replies {
    /// The octets with which they begin.
    header: ReplyHeader,
    /// The options that they carry where known.
    options: ReplyOptions,
    /// The templates of replies that were written.
    templates: Templates,
    /// The largest length of a reply.
    limit: usize,
}

impl Replies {
    /// Returns a writer of replies that begin with `header` and carry `options`.
    pub fn new(header: ReplyHeader, options: ReplyOptions) -> Replies {
        Replies {
            header,
            options,
            templates: Templates::default(),
            limit: MAX_MESSAGE,
        }
    }

    /// Keeps at most `templates` templates, and leaves out options that make a reply longer than `limit` octets.
    pub fn limited(mut self, templates: usize, limit: usize) -> Replies {
        self.templates = Templates::new(templates);
        self.limit = limit;
        self
    }

    /// Appends the reply about an address.
    ///
    /// `server_identifier` is for the first message of an answer alone (RFC 6926 section 8.3).
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        server_identifier: Option<Ipv4Addr>,
        projection: &Projection<'_>,
    ) {
        let is_first = server_identifier.is_some();
        if !is_first && self.write_from_template(out, projection) {
            return;
        }
        self.write_in_full(out, server_identifier, projection);
        // Most answers to a query for one client have no second reply. VPNs that relay agents name may differ from
        // client to client.
        if !is_first && projection.client.is_some_and(|client| !client.names_vpn()) {
            self.add_template(projection);
        }
    }

    /// Appends the reply about an address, if it can be made from a template; returns whether it can.
    ///
    /// Inlined with the projection, which then need not be in memory.
    #[inline(always)]
    pub fn write_from_template(&mut self, out: &mut Vec<u8>, projection: &Projection<'_>) -> bool {
        let layout = Layout::new(projection);
        // Not by a closure, which the compiler may leave a function of its own.
        match self.templates.get(layout, projection.vpn) {
            Some(template) => template.write(out, projection),
            None => false,
        }
    }

    /// Adds a template for replies like the one about `projection`, if it is missing.
    fn add_template(&mut self, projection: &Projection<'_>) {
        let layout = Layout::new(projection);
        if self.templates.get(layout, projection.vpn).is_none() {
            if let Some(template) = Template::new(&self.header, &self.options, projection) {
                self.templates.insert(template);
            }
        }
    }

    /// Appends the reply about an address, option by option.
    fn write_in_full(
        &self,
        out: &mut Vec<u8>,
        server_identifier: Option<Ipv4Addr>,
        projection: &Projection<'_>,
    ) {
        let mut writer = MessageWriter::new(out, &self.header, projection.message_type());
        writer.limit(self.limit);
        writer.address(projection.address);
        if let Some(client) = projection.client {
            writer.hardware(client.htype(), client.chaddr());
        }
        if let Some(address) = server_identifier {
            writer.option(code::SERVER_IDENTIFIER, &address.octets());
        }
        // Without VPN-ID the reply would be about the default VPN.
        let vpn_id = match projection.vpn {
            Vpn::Default => Vec::new(),
            vpn => vpn.to_vss(),
        };
        writer.reserve(2 + vpn_id.len());
        for option in self.options.iter() {
            write_option(&mut writer, option, projection);
        }
        writer.reserve(0);
        if !vpn_id.is_empty() {
            writer.option(code::VPN_ID, &vpn_id);
        }
        writer.finish();
    }
}

/// Adds an option about an address, if it is known.
pub fn write_option(
    writer: &mut MessageWriter<'_>,
    option: ReplyOption,
    projection: &Projection<'_>,
) {
    match option {
        ReplyOption::Seconds(option, index) => {
            if let Some(seconds) = projection.seconds[index] {
                writer.option_u32(option, seconds);
            }
        }
        ReplyOption::State => writer.option(code::DHCP_STATE, &[projection.state as u8]),
        // Sent where any bit is set (RFC 6926 section 8.3 item 5).
        ReplyOption::DataSource => {
            if projection.is_remote {
                writer.option(code::DATA_SOURCE, &[data_source::REMOTE]);
            }
        }
        ReplyOption::Sent(option) => {
            let value = projection.sent(option);
            if !value.is_empty() {
                writer.option(option, &value);
            }
        }
    }
}

/// Appends the DHCPLEASEQUERYDONE that ends an answer, with a status if it was not successful
/// (RFC 6926 section 8.2).
pub fn write_done(
    out: &mut Vec<u8>,
    header: &ReplyHeader,
    server_identifier: Option<Ipv4Addr>,
    base_time: Option<Time>,
    status: Option<(StatusCode, &str)>,
) {
    let mut writer = MessageWriter::new(out, header, MessageType::LEASE_QUERY_DONE);
    if let Some(address) = server_identifier {
        writer.option(code::SERVER_IDENTIFIER, &address.octets());
    }
    if let Some(time) = base_time {
        writer.option_u32(code::BASE_TIME, time.0);
    }
    if let Some((status, text)) = status {
        writer.status(status, text);
    }
    writer.finish();
}

#[cfg(test)]
mod tests;
