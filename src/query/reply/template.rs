//! Templates: replies of one layout, from which others are made by setting their values.

use proto::data_source;
use proto::message::{CIADDR, HEADER_LENGTH};
use proto::option::code;

use crate::kea_config::KeaConfig;
use crate::model::client::ClientRef;
use crate::model::state::State;
use crate::model::vpn::Vpn;
use crate::query::reply::options::{ReplyOption, ReplyOptions, SECONDS};
use crate::query::reply::projection::{Projection, sent_by_client};
use crate::wire::writer::{MESSAGE_TYPE, ReplyHeader, copy, set, set_hardware};

/// The most templates for one query, unless it has another limit.
const MOST_TEMPLATES: usize = 32;

/// The most parts of a template. With the number of templates it bounds the memory for one query.
const MOST_PARTS: usize = 16;

/// The layout of a reply: its state, and the options of fixed length that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout(u8);

impl Layout {
    /// Returns the layout of the reply about `projection`.
    #[inline(always)]
    pub fn new(projection: &Projection<'_>) -> Layout {
        // base-time and start-time-of-state are always known.
        let [_, _, last_transaction, lease, renewal, rebinding] = projection.seconds;
        // A state is 1 to 8.
        Layout(
            (projection.state as u8 - 1)
                | u8::from(projection.is_remote) << 3
                | u8::from(last_transaction.is_some()) << 4
                | u8::from(lease.is_some()) << 5
                | u8::from(renewal.is_some()) << 6
                | u8::from(rebinding.is_some()) << 7,
        )
    }

    /// Whether the state is active.
    fn is_active(self) -> bool {
        self.0 & 7 == State::Active as u8 - 1
    }
}

/// The templates of the replies to a query.
#[derive(Debug)]
pub struct Templates {
    /// The templates; len() <= most
    templates: Vec<Template>,
    /// The largest number of templates.
    most: usize,
    /// The index of the template used last, which most of the following replies need too.
    last: usize,
}

impl Default for Templates {
    fn default() -> Templates {
        Templates::new(MOST_TEMPLATES)
    }
}

impl Templates {
    /// Returns no templates, with this limit of their number.
    pub fn new(most: usize) -> Templates {
        Templates {
            templates: Vec::new(),
            most,
            last: 0,
        }
    }

    /// Returns the template for replies of a layout in a VPN.
    #[inline(always)]
    pub fn get(&mut self, layout: Layout, vpn: &Vpn) -> Option<&mut Template> {
        let last = self.templates.get(self.last);
        if !last.is_some_and(|template| template.is_for(layout, vpn)) {
            self.last = self.find(layout, vpn)?;
        }
        self.templates.get_mut(self.last)
    }

    /// Returns the index of the template for replies of a layout in a VPN.
    #[inline(never)]
    fn find(&self, layout: Layout, vpn: &Vpn) -> Option<usize> {
        let mut templates = self.templates.iter();
        templates.position(|template| template.is_for(layout, vpn))
    }

    /// Adds a template, in place of all others if there are too many.
    pub fn insert(&mut self, template: Template) {
        if self.templates.len() >= self.most {
            self.templates.clear();
        }
        self.templates.push(template);
    }
}

/// A reply, and the places of its values.
#[derive(Debug)]
pub struct Template {
    /// The layout.
    layout: Layout,
    /// The VPN.
    vpn: Vpn,
    /// The octets of a message: those kept last, of which the first [`Template::head`] are in every reply.
    octets: Vec<u8>,
    /// Whether the octets are a whole reply, which has no option of variable length but the client
    /// identifier and the relay agent information.
    is_laid_out: bool,
    /// Offsets of the values of [`SECONDS`]; that of ciaddr, which is set after them, for those that the reply
    /// does not have.
    numbers: [u16; SECONDS.len()],
    /// The place of the client identifier.
    client_id: Place,
    /// The place of the relay agent information.
    information: Place,
    /// Octets up to the first option of variable length.
    head: usize,
    /// The rest of the reply.
    parts: Vec<Part>,
}

/// The place of a value. Both are 0 if the option is not requested.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Offset of the value.
    offset: u16,
    /// Length of the value.
    length: u16,
}

/// An option of variable length, and the options of fixed length between it and the next one.
#[derive(Debug, Default)]
struct Part {
    /// The code of the option of variable length.
    variable: u8,
    /// The octets of the options of fixed length.
    fixed: Vec<u8>,
    /// Indexes of numbers in [`SECONDS`], and their offsets in `fixed`.
    numbers: Vec<(usize, u16)>,
}

impl Template {
    /// Returns a template for replies of the layout of the one about `projection`; `None` if too many options
    /// of variable length are requested.
    pub fn new(
        header: &ReplyHeader,
        options: &ReplyOptions,
        projection: &Projection<'_>,
    ) -> Option<Template> {
        let variable = |option: &ReplyOption| matches!(option, ReplyOption::Sent(_));
        if options.iter().filter(variable).count() >= MOST_PARTS {
            return None;
        }
        let mut parts = Vec::new();
        let mut last = Part::default();
        last.fixed.extend_from_slice(header.octets());
        set(&mut last.fixed, MESSAGE_TYPE, [projection.message_type().0]);
        for option in options.iter() {
            match option {
                ReplyOption::Seconds(code, index) if projection.seconds[index].is_some() => {
                    last.numbers.push((index, last.fixed.len() as u16 + 2));
                    last.add(code, &[0; 4]);
                }
                ReplyOption::State => last.add(code::DHCP_STATE, &[projection.state as u8]),
                ReplyOption::DataSource if projection.is_remote => {
                    last.add(code::DATA_SOURCE, &[data_source::REMOTE]);
                }
                ReplyOption::Seconds(..) | ReplyOption::DataSource => {}
                ReplyOption::Sent(variable) => {
                    parts.push(last);
                    last = Part {
                        variable,
                        ..Part::default()
                    };
                }
            }
        }
        if *projection.vpn != Vpn::Default {
            last.add(code::VPN_ID, &projection.vpn.to_vss());
        }
        last.fixed.push(code::END);
        parts.push(last);
        let mut template = Template {
            layout: Layout::new(projection),
            vpn: projection.vpn.clone(),
            octets: Vec::new(),
            is_laid_out: parts.len() == 1,
            numbers: [CIADDR as u16; SECONDS.len()],
            client_id: Place::default(),
            information: Place::default(),
            head: 0,
            parts: Vec::new(),
        };
        let mut parts = parts.into_iter();
        parts
            .next()?
            .lay_out(&mut template.octets, 0, &mut template.numbers);
        template.head = template.octets.len();
        template.parts = parts.collect();
        Some(template)
    }

    /// Whether the template is for replies of a layout in a VPN.
    #[inline(always)]
    fn is_for(&self, layout: Layout, vpn: &Vpn) -> bool {
        let is_default = matches!((vpn, &self.vpn), (Vpn::Default, Vpn::Default));
        self.layout == layout && (is_default || *vpn == self.vpn)
    }

    /// Appends the reply about `projection` if a template can express it; returns whether it can.
    #[inline(always)]
    pub fn write(&mut self, out: &mut Vec<u8>, projection: &Projection<'_>) -> bool {
        let Some(client) = projection.client else {
            return false;
        };
        let client_id = client.client_id();
        let information = client.relay_agent_information();
        // Not `&&`: where lengths are in no order, a branch for each would be mispredicted.
        let has_lengths = self.client_id.fits(client_id) & self.information.fits(information);
        let start = out.len();
        if self.is_laid_out && has_lengths {
            out.extend_from_slice(&self.octets);
            let message = out.get_mut(start..).unwrap_or_default();
            self.client_id.set(message, client_id);
            self.information.set(message, information);
        } else {
            let ids = (client_id, information);
            if !self.lay_out(out, projection.kea_config, client, ids, has_lengths) {
                out.truncate(start);
                return false;
            }
        }
        let message = out.get_mut(start..).unwrap_or_default();
        for index in 0..SECONDS.len() {
            let number = projection.seconds[index].unwrap_or_default();
            set(message, self.numbers[index].into(), number.to_be_bytes());
        }
        if let Some(header) = message.first_chunk_mut::<HEADER_LENGTH>() {
            set(header, CIADDR, projection.address.octets());
            set_hardware(header, client.htype(), client.chaddr());
        }
        true
    }

    /// Appends the reply with the values that `client` sent, part by part; returns `false` if the server may send one
    /// that the client did not send, or one does not fit one option.
    ///
    /// The reply is kept for others only if the client identifier and the relay agent information have the lengths of
    /// the reply before, `has_lengths`: where lengths differ from client to client, keeping it is mostly useless.
    #[inline(never)]
    fn lay_out(
        &mut self,
        out: &mut Vec<u8>,
        kea_config: &KeaConfig,
        client: ClientRef<'_>,
        (client_id, information): (&[u8], &[u8]),
        has_lengths: bool,
    ) -> bool {
        self.is_laid_out = false;
        let start = out.len();
        out.extend_from_slice(self.octets.get(..self.head).unwrap_or_default());
        let mut is_general = false;
        for part in &self.parts {
            let value = match part.variable {
                code::CLIENT_IDENTIFIER => client_id,
                code::RELAY_AGENT_INFORMATION => information,
                other => sent_by_client(client, other),
            };
            let Ok(length) = u8::try_from(value.len()) else {
                return false;
            };
            if length > 0 {
                out.extend_from_slice(&[part.variable, length]);
                out.extend_from_slice(value);
            } else if self.layout.is_active() && kea_config.may_send(part.variable) {
                return false;
            }
            let place = Place {
                offset: (out.len() - start - value.len()) as u16,
                length: length.into(),
            };
            match part.variable {
                code::CLIENT_IDENTIFIER if length > 0 => self.client_id = place,
                code::RELAY_AGENT_INFORMATION if length > 0 => self.information = place,
                _ => is_general = true,
            }
            part.lay_out(out, start, &mut self.numbers);
        }
        if has_lengths && !is_general {
            let message = out.get(start..).unwrap_or_default();
            self.octets.clear();
            self.octets.extend_from_slice(message);
            self.is_laid_out = true;
        }
        true
    }
}

impl Place {
    /// Whether a value can be set here.
    #[inline(always)]
    fn fits(self, value: &[u8]) -> bool {
        (self.offset == 0) | (usize::from(self.length) == value.len())
    }

    /// Sets a value that fits.
    #[inline(always)]
    fn set(self, message: &mut [u8], value: &[u8]) {
        let offset = usize::from(self.offset);
        if offset > 0 {
            if let Some(place) = message.get_mut(offset..offset + value.len()) {
                copy(place, value);
            }
        }
    }
}

impl Part {
    /// Adds an option of fixed length, of at most 255 octets.
    fn add(&mut self, code: u8, value: &[u8]) {
        self.fixed.extend([code, value.len() as u8]);
        self.fixed.extend_from_slice(value);
    }

    /// Appends the options of fixed length to the message that begins at `start`, and sets the offsets of their
    /// numbers.
    fn lay_out(&self, out: &mut Vec<u8>, start: usize, numbers: &mut [u16; SECONDS.len()]) {
        for (index, offset) in &self.numbers {
            numbers[*index] = (out.len() - start) as u16 + offset;
        }
        out.extend_from_slice(&self.fixed);
    }
}
