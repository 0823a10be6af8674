//! The command `blq4-lease-get`.

use std::net::Ipv4Addr;

use proto::sub_option;
use serde_json::{Value, json};

use crate::mirror::is_of_message;
use crate::mirror::view::View;
use crate::model::binding::{Binding, BindingRef};
use crate::model::client::ClientRef;
use crate::model::hex::with_colons;
use crate::model::relay_agent_information;
use crate::model::time::Time;
use crate::plugin::control::answer::{Answer, octets, vpn};
use crate::plugin::observed::Observed;
use crate::query::reply::{Projection, Projector, ReplyOption, ReplyOptions};

/// Describes the reply about an address, and its sources.
///
/// # Errors
/// Leases are being loaded, or the mirror has failed.
pub fn lease(observed: &Observed, address: Ipv4Addr) -> Result<Answer, String> {
    let mirror = &observed.mirror;
    mirror.catch_up();
    let read = mirror.read(|table| (table.view().clone(), table.binding(address)));
    let (view, binding) =
        read.map_err(|_| "leases are being loaded, or loading failed: see blq4-status".to_owned())?;
    let now = Time::now();
    let is_non_sensitive = |code: u8| {
        let codes = observed.config.non_sensitive_options.as_ref();
        codes.is_none_or(|codes| codes.contains(&code))
    };
    let all: Vec<u8> = (1..=254).collect();
    let options = ReplyOptions::new(Some(&all), is_non_sensitive);
    let mut projector = Projector::new(&view, now);
    let range = view.range_of(address.to_bits());
    let projection = match (&binding, range) {
        (Some(binding), _) => projector.binding(binding.view()),
        (None, Some(range)) => Some(projector.free(address, range)),
        (None, None) => {
            let text = format!(
                "{address} is in no configured pool, not reserved, and has no binding: no requester is sent \
                 anything about it"
            );
            return Ok(Answer::Empty(
                text,
                json!({ "ip-address": address.to_string() }),
            ));
        }
    };
    let reply = projection.map(|projection| reply(&projection, &options));
    let text = match &reply {
        Some(reply) => format!(
            "{address} is {}",
            reply["state"].as_str().unwrap_or_default()
        ),
        None => format!("no requester is sent anything about {address}: its VPN is unknown"),
    };
    let arguments = json!({
        "ip-address": address.to_string(),
        "time": now.0,
        "reply": reply,
        "listed": match &binding {
            Some(binding) => view.lists(binding.view(), now),
            None => true,
        },
        "times": binding.as_ref().map(|binding| times(binding.view())),
        "subnet": binding.as_ref().map(|binding| subnet(&view, binding)),
        "vpn-from": vpn_from(&view, binding.as_ref(), now),
        "option-82": binding.as_ref().map(|binding| option_82(binding.client.as_ref().map(|client| client.view()))),
        "range": range.map(|range| json!({
            "first": range.first.to_string(),
            "last": range.last.to_string(),
            "since": range.since.0,
            "remote": range.remote,
        })),
    });
    Ok(Answer::Success(text, arguments))
}

/// Describes a reply with all options that a requester may receive.
fn reply(projection: &Projection<'_>, options: &ReplyOptions) -> Value {
    let options: Vec<Value> = options
        .iter()
        .filter_map(|option| {
            let (code, value) = match option {
                ReplyOption::Sent(code) => (code, projection.sent(code).into_owned()),
                // They follow by name.
                _ => return None,
            };
            (!value.is_empty()).then(|| json!({ "code": code, "data": octets(&value) }))
        })
        .collect();
    let [
        base_time,
        start_time_of_state,
        last_transaction,
        lease_time,
        renewal_time,
        rebinding_time,
    ] = projection.seconds;
    let client = projection.client.map(|client| {
        json!({
            "hw-type": client.htype(),
            "hw-address": (!client.chaddr().is_empty()).then(|| with_colons(client.chaddr())),
            "client-id": (!client.client_id().is_empty()).then(|| with_colons(client.client_id())),
        })
    });
    let state = proto::State(projection.state as u8);
    json!({
        "message-type": projection.message_type().to_string(),
        "state": state.to_string().to_ascii_lowercase(),
        "vpn": vpn(projection.vpn),
        "data-source": if projection.is_remote { "remote" } else { "local" },
        "base-time": base_time,
        "start-time-of-state": start_time_of_state,
        "client-last-transaction-time": last_transaction,
        "lease-time": lease_time,
        "renewal-time": renewal_time,
        "rebinding-time": rebinding_time,
        "client": client,
        "options": options,
    })
}

/// Describes the times of a binding, in seconds since 1970.
fn times(binding: BindingRef<'_>) -> Value {
    json!({
        "state-since": binding.since.0,
        "lease-start": binding.lease_start.0,
        "valid-lifetime": binding.lifetime.0,
        "ends": binding.ends().map(|end| end.0),
        "last-transaction": binding.last_transaction.map(|last| last.0),
        "learned-at": binding.learned_at.map(|learned| learned.0),
    })
}

/// Describes the subnet of a binding, and how it was found.
fn subnet(view: &View, binding: &Binding) -> Value {
    let (address, id) = (binding.address, binding.subnet);
    let configured = view.kea_config.subnet_of(address, id);
    let former = || {
        let index = view.former_subnets.index_of(address, id)?;
        view.former_subnets.get(index)
    };
    match configured {
        Some(subnet) => json!({
            "id": subnet.id.0,
            "subnet": subnet.prefix.to_string(),
            "from": if subnet.id == id { "lease" } else { "address" },
            "lease-subnet-id": id.0,
        }),
        None => match former() {
            Some(former) => json!({
                "id": former.id.0,
                "subnet": format!("{}-{}", former.first, former.last),
                "from": "former-subnet",
                "lease-subnet-id": id.0,
            }),
            None => json!({
                "id": null,
                "subnet": null,
                "from": "none",
                "lease-subnet-id": id.0,
            }),
        },
    }
}

/// Returns the source of the VPN.
fn vpn_from(view: &View, binding: Option<&Binding>, now: Time) -> &'static str {
    let Some(binding) = binding.map(Binding::view) else {
        return "pool";
    };
    let (state, _) = view.state(&binding, now);
    let client = binding.client.filter(|_| !state.is_free());
    if client.is_some_and(|client| client.vpn().is_some()) {
        "relay-agent"
    } else if (view.kea_config)
        .subnet_of(binding.address, binding.subnet)
        .is_some()
    {
        "subnet"
    } else if view.vpn(binding.address, binding.subnet).is_some() {
        "former-subnet"
    } else {
        "none"
    }
}

/// Describes the relay agent information of a client, and its source.
fn option_82(client: Option<ClientRef<'_>>) -> Value {
    let information = client.map_or(&[][..], ClientRef::relay_agent_information);
    let stored = client.map_or(&[][..], ClientRef::stored);
    let is_of_message = client.is_some_and(is_of_message);
    let find = |code| {
        let found = relay_agent_information::find(information, code);
        octets(found.unwrap_or_default())
    };
    let (from, missing) = match (information.is_empty(), is_of_message) {
        (false, true) => ("message", None),
        (false, false) => ("lease-database", None),
        (true, true) => (
            "none",
            Some("the client's last message came without option 82"),
        ),
        (true, false) => (
            "none",
            Some(
                "Kea has stored none with the lease ('store-extended-info'), and no message of the client came \
                 since the leases were loaded",
            ),
        ),
    };
    json!({
        "from": from,
        "missing-because": missing,
        "data": octets(information),
        "remote-id": find(sub_option::REMOTE_ID),
        "relay-id": find(sub_option::RELAY_ID),
        "stored-in-lease": octets(stored),
    })
}
