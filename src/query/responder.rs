//! One turn of an answer: from the entries of a part to framed replies.

use std::net::Ipv4Addr;

use crate::mirror::view::View;
use crate::mirror::{Found, Run};
use crate::model::binding::BindingRef;
use crate::model::state::State;
use crate::model::time::Time;
use crate::query::filter::Filter;
use crate::query::reply::{Projection, Projector, Replies};
use crate::wire::frame::{self, FrameWriter};

/// Writes replies about the addresses of a part that a query returns.
pub struct Responder<'a> {
    /// Projects the addresses.
    projector: Projector<'a>,
    /// Selects the bindings.
    filter: &'a Filter,
    /// Writes the replies.
    replies: &'a mut Replies,
    /// The server identifier, until a message has carried it.
    server_identifier: &'a mut Option<Ipv4Addr>,
}

impl<'a> Responder<'a> {
    /// Returns a responder about the addresses of `view` at `now`.
    pub fn new(
        view: &'a View,
        now: Time,
        filter: &'a Filter,
        replies: &'a mut Replies,
        server_identifier: &'a mut Option<Ipv4Addr>,
    ) -> Responder<'a> {
        Responder {
            projector: Projector::new(view, now),
            filter,
            replies,
            server_identifier,
        }
    }

    /// Appends the reply about a binding, if the query returns it.
    #[inline(always)]
    pub fn binding(&mut self, found: Found<'a>, out: &mut Vec<u8>) {
        let binding = found.binding();
        // At most twice: with the terms looked up, the first binding of a subnet or of a lifetime is mostly usual.
        while !self.usual_binding(&binding, out) {
            // By value: a binding lent to another function would be in memory from the beginning.
            if !self.projector.look_up_terms(binding) {
                return self.any_binding(binding, out);
            }
        }
    }

    /// Appends the reply about a binding that is like most, if the query returns it and a template can make the
    /// reply; returns whether the binding is dealt with.
    ///
    /// Inlined, and apart from other bindings, so that the compiler need not care about those.
    #[inline(always)]
    fn usual_binding(&mut self, binding: &BindingRef<'a>, out: &mut Vec<u8>) -> bool {
        let terms = self.projector.usual_terms(binding);
        let Some(terms) = terms.filter(|_| self.server_identifier.is_none()) else {
            return false;
        };
        let view = self.projector.view();
        if !(self.filter).selects(view, binding, terms.1, (State::Active, binding.since)) {
            return true;
        }
        let frame = FrameWriter::begin(out);
        let projection = self.projector.usual_binding(binding, terms);
        let is_written = self.replies.write_from_template(out, &projection);
        match is_written {
            true => frame.finish(out),
            false => frame.discard(out),
        }
        is_written
    }

    /// Appends the reply about a binding, if the query returns it.
    #[inline(never)]
    fn any_binding(&mut self, binding: BindingRef<'a>, out: &mut Vec<u8>) {
        let view = self.projector.view();
        if let Some(projection) = self.projector.binding(binding) {
            let state = (projection.state, projection.since);
            if (self.filter).selects(view, &binding, projection.vpn, state) {
                let frame = FrameWriter::begin(out);
                let server_identifier = self.server_identifier.take();
                self.replies.write(out, server_identifier, &projection);
                frame.finish(out);
            }
        }
    }

    /// Appends the replies about free addresses, until `out` has `full` octets; returns the last of these
    /// addresses. `None` if the query returns none.
    pub fn free(&mut self, run: Run<'a>, full: usize, out: &mut Vec<u8>) -> Option<Ipv4Addr> {
        if !self.filter.selects_free(run) {
            return None;
        }
        let projection = self.projector.free(run.first, run.range);
        Some(write_free(
            self.replies,
            self.server_identifier,
            (&projection, run.last),
            full,
            out,
        ))
    }
}

/// Appends the replies about free addresses, from that of `first` to `last`, until `out` has `full` octets; returns
/// the last of these addresses.
pub fn write_free(
    replies: &mut Replies,
    server_identifier: &mut Option<Ipv4Addr>,
    (first, last): (&Projection<'_>, Ipv4Addr),
    full: usize,
    out: &mut Vec<u8>,
) -> Ipv4Addr {
    let server_identifier = server_identifier.take();
    let start = out.len();
    let frame = FrameWriter::begin(out);
    replies.write(out, server_identifier, first);
    frame.finish(out);
    let frame = start..out.len();
    let mut address = first.address;
    // The first message of an answer differs from the others.
    while server_identifier.is_none() && address < last && out.len() < full {
        address = Ipv4Addr::from_bits(address.to_bits() + 1);
        // The replies about free addresses of a range differ in nothing else.
        frame::append_copy(out, frame.clone(), address);
    }
    address
}
