// The arguments of callouts, and leases.

#include <config.h>

#include "guard.h"

#include <asiolink/io_address.h>
#include <cc/data.h>
#include <dhcp/dhcp4.h>
#include <dhcp/iface_mgr.h>
#include <dhcp/option.h>
#include <dhcp/pkt4.h>
#include <dhcpsrv/cfg_iface.h>
#include <dhcpsrv/cfgmgr.h>
#include <dhcpsrv/lease.h>
#include <dhcpsrv/lease_mgr.h>
#include <dhcpsrv/lease_mgr_factory.h>
#include <hooks/callout_handle.h>
#include <util/buffer.h>

#include <boost/make_shared.hpp>

#if __has_include(<dhcpsrv/tracking_lease_mgr.h>)
#include <dhcpsrv/tracking_lease_mgr.h>
#define KEA_BLQ_TRACKING 1
#endif

namespace kea_blq {
namespace {

using isc::asiolink::IOAddress;
using isc::data::ConstElementPtr;
using isc::data::Element;
using isc::dhcp::CfgIface;
using isc::dhcp::CfgMgr;
using isc::dhcp::Lease4;
using isc::dhcp::Lease4Collection;
using isc::dhcp::Lease4CollectionPtr;
using isc::dhcp::Lease4Ptr;
using isc::dhcp::LeaseMgr;
using isc::dhcp::LeaseMgrFactory;
using isc::dhcp::LeasePageSize;
using isc::dhcp::Option;
using isc::dhcp::Pkt4;
using isc::dhcp::Pkt4Ptr;

// The names of arguments, as the strings that Kea takes.
const std::string QUERY("query4"), ANSWER("response4"), LEASES("leases4"), DELETED("deleted_leases4");

// Whether the relay agent information that is stored with a lease is looked for.
enum class Context { LEAVE, LOOK };

// Memory of a thread for values that Kea does not hold in the form in which they are lent. It is kept from
// callout to callout, so that a callout allocates none.
struct Scratch {
    // Leases, and the texts of their relay agent information.
    struct Leases {
        std::vector<KeaLease> lent;
        std::vector<std::string> texts;
    };

    Leases leases;
    Leases deleted;
    isc::util::OutputBuffer option{0};
    std::string classes;
};

// Behind a pointer, which is read once: the compiler computes the address of a thread-local variable anew at
// each use, by a call.
Scratch& scratch() {
    thread_local const auto scratch = std::make_unique<Scratch>();
    return *scratch;
}

// -------------------------------------------------------------------------------- Arguments

// An argument of a callout. One that is missing or of another type throws.
template <typename Value>
Value argument(const CalloutHandle& handle, const std::string& name) {
    Value value{};
    handle.getArgument(name, value);
    return value;
}

// An argument of a callout that must not be null.
template <typename Pointer>
Pointer pointer(const CalloutHandle& handle, const std::string& name) {
    auto value = argument<Pointer>(handle, name);
    if (!value) {
        throw std::runtime_error("argument " + name + " is null");
    }
    return value;
}

// Runs the body of a callout. Kea continues after it in any case.
template <typename Body>
void callout(const char* name, Body&& body) noexcept {
    try {
        std::forward<Body>(body)();
    } catch (const std::exception& error) {
        callout_failed(name, rust::String::lossy(error.what()));
    } catch (...) {
        callout_failed(name, rust::String("an exception of unknown type"));
    }
}

// The name of a callout about one lease.
const char* name_of(KeaLeaseCallout which) {
    switch (which) {
    case KeaLeaseCallout::Expire:
        return "lease4_expire";
    case KeaLeaseCallout::Recover:
        return "lease4_recover";
    default:
        return "lease4_server_decline";
    }
}

// ----------------------------------------------------------------------------------- Leases

// The value of a name in a map; null if it has none, or is no map.
ConstElementPtr in(const ConstElementPtr& map, const std::string& name) {
    return map && map->getType() == Element::map ? map->get(name) : ConstElementPtr();
}

// The text of the relay agent information in a lease's user-context: up to Kea 2.2 the value itself, later
// in a map.
void find_relay_agent_info(const Lease4& lease, std::string& found) {
    static const std::string OF_KEA("ISC"), INFO("relay-agent-info"), TEXT("sub-options");
    found.clear();
    const auto context = lease.getContext();
    if (!context) {
        return;
    }
    auto info = in(in(context, OF_KEA), INFO);
    if (const auto inner = in(info, TEXT)) {
        info = inner;
    }
    if (info && info->getType() == Element::string) {
        info->getValue(found);
    }
}

// A lease, lent as long as it and `text` stay as they are.
KeaLease lend(const Lease4& lease, Context context, std::string& text) {
    KeaLease values{};
    values.address = lease.addr_.toUint32();
    values.state = lease.state_;
    values.cltt = lease.cltt_;
    values.valid_lifetime = lease.valid_lft_;
    values.subnet = lease.subnet_id_;
    if (lease.hwaddr_) {
        values.hardware_type = lease.hwaddr_->htype_;
        values.hardware = lent(lease.hwaddr_->hwaddr_);
    }
    if (lease.client_id_) {
        values.client_id = lent(lease.client_id_->getClientId());
    }
    values.hostname = lent(lease.hostname_);
    if (context == Context::LOOK) {
        find_relay_agent_info(lease, text);
        values.relay_agent_info = lent(text);
    }
    return values;
}

// Leases, lent as long as they and `scratch` stay as they are.
rust::Slice<const KeaLease> lend(const Lease4Collection& leases, Context context,
                                 Scratch::Leases& scratch) {
    scratch.lent.clear();
    if (leases.empty()) {
        return {};
    }
    if (scratch.texts.size() < leases.size()) {
        scratch.texts.resize(leases.size());
    }
    auto text = scratch.texts.begin();
    for (const auto& lease : leases) {
        if (lease) {
            scratch.lent.push_back(lend(*lease, context, *text++));
        }
    }
    return {scratch.lent.data(), scratch.lent.size()};
}

// Lends leases to `taker`, one after the other.
void take(LeaseTaker& taker, const Lease4Collection& leases) {
    std::string text;
    for (const auto& lease : leases) {
        if (lease) {
            taker.take(lend(*lease, Context::LOOK, text));
        }
    }
}

LeaseMgr& lease_manager() {
    return LeaseMgrFactory::instance();
}

// --------------------------------------------------------------------------------- Messages

// An option as Kea has parsed it, or as another hook has left it; null if there is none. Within a callout
// Pkt4::getOption would make a copy, and put it into the packet as well.
const Option* option(const Pkt4& message, std::uint16_t code) {
    const auto found = message.options_.find(code);
    return found == message.options_.end() ? nullptr : found->second.get();
}

// The value of an option that has sub-options, in the form in which Kea stores it with a lease and sends it
// back: mostly each sub-option once, in the order of their codes. Empty if there is none, or one that cannot
// be packed, which Kea could neither store nor send.
rust::Slice<const std::uint8_t> pack(const Option* option, isc::util::OutputBuffer& scratch) {
    scratch.clear();
    if (option == nullptr) {
        return {};
    }
    try {
        option->pack(scratch, false);
    } catch (const std::exception&) {
        return {};
    }
    const std::size_t header = option->getHeaderLen();
    if (scratch.getLength() <= header) {
        return {};
    }
    const void* const packed = scratch.getData();
    return {static_cast<const std::uint8_t*>(packed) + header, scratch.getLength() - header};
}

// The client classes of a message: for each the length of its name and the name.
rust::Slice<const std::uint8_t> classes(const Pkt4& message, std::string& scratch) {
    scratch.clear();
    for (const auto& name : message.getClasses()) {
        if (name.size() > UINT16_MAX) {
            continue;
        }
        const char length[] = {static_cast<char>(name.size() >> 8),
                               static_cast<char>(name.size() & 0xff)};
        scratch.append(length, sizeof length).append(name);
    }
    return lent(scratch);
}

// A message, lent as long as it and `scratch` stay as they are.
KeaMessage lend(const Pkt4& query, Scratch& scratch) {
    KeaMessage message{};
    message.octets = lent(query.data_);
    if (const auto hardware = query.getHWAddr()) {
        message.hardware_type = hardware->htype_;
        // The packet holds it.
        message.hardware = lent(hardware->hwaddr_);
    }
    if (const auto* client_id = option(query, isc::dhcp::DHO_DHCP_CLIENT_IDENTIFIER)) {
        message.client_id = lent(client_id->getData());
    }
    message.relay = query.getGiaddr().toUint32();
    message.relay_agent_information =
        pack(option(query, isc::dhcp::DHO_DHCP_AGENT_OPTIONS), scratch.option);
    message.classes = classes(query, scratch.classes);
    return message;
}

// The answer to a client; of no type and without an address if there is none.
KeaAnswer answer(const CalloutHandle& handle) {
    KeaAnswer copy{};
    if (const auto answer = argument<Pkt4Ptr>(handle, ANSWER)) {
        copy.message_type = answer->getType();
        copy.address = answer->getYiaddr().toUint32();
    }
    return copy;
}

#ifdef KEA_BLQ_TRACKING
// The name under which the lease manager knows this library.
constexpr char OWNER[] = "blq";

// Runs in the middle of the lease manager's own work: no exception may get out.
template <typename Report>
void report(Report&& report) noexcept {
    try {
        report();
    } catch (...) {
        change_missed();
    }
}
#endif

}  // namespace

// --------------------------------------------------------------------------------- Callouts

void lend_committed(const CalloutHandle& handle, bool with_answer) noexcept {
    callout("leases4_committed", [&] {
        // The handle holds these until the callout returns.
        const auto query = pointer<Pkt4Ptr>(handle, QUERY);
        const auto leases = pointer<Lease4CollectionPtr>(handle, LEASES);
        const auto deleted = pointer<Lease4CollectionPtr>(handle, DELETED);
        auto& memory = scratch();
        KeaCommitted arguments{};
        arguments.message = lend(*query, memory);
        arguments.leases = lend(*leases, Context::LOOK, memory.leases);
        arguments.deleted = lend(*deleted, Context::LEAVE, memory.deleted);
        // Kea looks the type up among the options.
        if (arguments.leases.empty() || !arguments.deleted.empty()) {
            arguments.message.message_type = query->getType();
        }
        if (with_answer && arguments.leases.empty()) {
            arguments.answer = answer(handle);
        }
        committed(arguments);
    });
}

void lend_offered(const CalloutHandle& handle) noexcept {
    callout("lease4_offer", [&] {
        const auto query = pointer<Pkt4Ptr>(handle, QUERY);
        const auto leases = pointer<Lease4CollectionPtr>(handle, LEASES);
        auto& memory = scratch();
        KeaOffered arguments{};
        arguments.message = lend(*query, memory);
        arguments.leases = lend(*leases, Context::LOOK, memory.leases);
        arguments.lifetime = argument<std::uint32_t>(handle, "offer_lifetime");
        offered(arguments);
    });
}

void lend_answered(const CalloutHandle& handle) noexcept {
    callout("pkt4_send", [&] {
        const auto query = pointer<Pkt4Ptr>(handle, QUERY);
        KeaAnswered arguments{};
        arguments.message = lend(*query, scratch());
        arguments.message.message_type = query->getType();
        arguments.answer = answer(handle);
        answered(arguments);
    });
}

void lend_received(CalloutHandle& handle) noexcept {
    callout("buffer4_receive", [&] {
        // Another hook may have dropped it. Addresses of a message from a DHCPv6 server are IPv6 ones.
        const auto query = pointer<Pkt4Ptr>(handle, QUERY);
        if (handle.getStatus() == CalloutHandle::NEXT_STEP_DROP || query->isDhcp4o6()) {
            return;
        }
        KeaReceived message{};
        message.octets = lent(query->data_);
        message.source = query->getRemoteAddr().toUint32();
        message.local = query->getLocalAddr().toUint32();
        if (received(message, *query)) {
            handle.setStatus(CalloutHandle::NEXT_STEP_DROP);
        }
    });
}

namespace {

// Returns an empty reply with the interface of a query, and as its source the address of the socket that
// received the query: for a broadcast that is not the address to which it was sent.
Pkt4Ptr reply_to(const KeaPacket& query) {
    // The type is of no effect: the octets will be complete.
    const auto reply = boost::make_shared<Pkt4>(isc::dhcp::DHCPACK, query.getTransid());
    reply->setIface(query.getIface());
    reply->setIndex(query.getIndex());
    reply->setLocalAddr(query.getLocalAddr());
    reply->setLocalAddr(isc::dhcp::IfaceMgr::instance().getSocket(reply).addr_);
    const auto interfaces = CfgMgr::instance().getCurrentCfg()->getCfgIface();
    if (interfaces->getSocketType() == CfgIface::SOCKET_UDP &&
        interfaces->getOutboundIface() == CfgIface::USE_ROUTING) {
        // The system selects the interface.
        reply->resetIndex();
    }
    return reply;
}

}  // namespace

std::uint32_t receiving_address(const KeaPacket& query) {
    return guarded([&] { return reply_to(query)->getLocalAddr().toUint32(); });
}

void send_reply(const KeaPacket& query, std::uint32_t to,
                rust::Slice<const std::uint8_t> reply) {
    guarded([&] {
        const auto packet = reply_to(query);
        packet->setLocalPort(query.getLocalPort());
        packet->setRemoteAddr(IOAddress(to));
        packet->setRemotePort(isc::dhcp::DHCP4_SERVER_PORT);
        // Raw sockets address the Ethernet frame by these.
        if (const auto local = query.getLocalHWAddr()) {
            packet->setLocalHWAddr(local);
        }
        if (const auto remote = query.getRemoteHWAddr()) {
            packet->setRemoteHWAddr(remote);
        }
        packet->getBuffer().writeData(reply.data(), reply.size());
        isc::dhcp::IfaceMgr::instance().send(packet);
    });
}

bool listens_on(std::uint32_t address) {
    return guarded(
        [&] { return isc::dhcp::IfaceMgr::instance().hasOpenSocket(IOAddress(address)); });
}

void lend_lease(const CalloutHandle& handle, KeaLeaseCallout which) noexcept {
    callout(name_of(which), [&] {
        const auto lease = pointer<Lease4Ptr>(handle, "lease4");
        std::string text;
        lease_callout(which, lend(*lease, Context::LEAVE, text));
    });
}

rust::String command_name(const CalloutHandle& handle) {
    return guarded([&] { return text(argument<std::string>(handle, "name")); });
}

KeaCommand command(const CalloutHandle& handle) {
    return guarded([&] {
        KeaCommand copy{};
        if (const auto arguments = argument<ConstElementPtr>(handle, "arguments")) {
            copy.arguments = octets(arguments->str());
        }
        if (const auto response = argument<ConstElementPtr>(handle, "response")) {
            copy.response = octets(response->str());
        }
        return copy;
    });
}

// ---------------------------------------------------------------------------- Lease manager

#ifdef KEA_BLQ_TRACKING
bool track_leases() {
    return guarded([] {
        using isc::dhcp::TrackingLeaseMgr;
        const auto changed = [](const isc::dhcp::LeasePtr& lease) {
            report([&] {
                if (lease && wants_change(lease->state_)) {
                    std::string text;
                    lease_changed(lend(dynamic_cast<const Lease4&>(*lease), Context::LOOK, text));
                }
            });
        };
        const auto deleted = [](const isc::dhcp::LeasePtr& lease) {
            report([&] {
                if (lease) {
                    lease_deleted(lease->addr_.toUint32());
                }
            });
        };
        auto& manager = LeaseMgrFactory::instance();
        const auto follow = [&](TrackingLeaseMgr::CallbackType type,
                                const TrackingLeaseMgr::CallbackFn& callback) {
            manager.registerCallback(type, OWNER, isc::dhcp::SUBNET_ID_GLOBAL,
                                     isc::dhcp::Lease::TYPE_V4, callback);
        };
        follow(TrackingLeaseMgr::TRACK_ADD_LEASE, changed);
        follow(TrackingLeaseMgr::TRACK_UPDATE_LEASE, changed);
        follow(TrackingLeaseMgr::TRACK_DELETE_LEASE, deleted);
        return true;
    });
}

void untrack_leases() {
    guarded([] {
        if (LeaseMgrFactory::haveInstance()) {
            LeaseMgrFactory::instance().unregisterCallbacks(isc::dhcp::SUBNET_ID_GLOBAL,
                                                            isc::dhcp::Lease::TYPE_V4);
        }
    });
}
#else
bool track_leases() {
    return false;
}

void untrack_leases() {
}
#endif

rust::String lease_database_type() {
    return guarded([] { return text(lease_manager().getType()); });
}

void lease_page(std::uint32_t after, std::size_t limit, LeaseTaker& taker) {
    guarded([&] {
        take(taker, lease_manager().getLeases4(IOAddress(after), LeasePageSize(limit)));
    });
}

void lease_of(std::uint32_t address, LeaseTaker& taker) {
    guarded([&] { take(taker, {lease_manager().getLease4(IOAddress(address))}); });
}

rust::Vec<std::uint32_t> leased_addresses(std::uint32_t subnet) {
    return guarded([&] {
        rust::Vec<std::uint32_t> addresses;
        for (const auto& lease : lease_manager().getLeases4(isc::dhcp::SubnetID(subnet))) {
            addresses.push_back(lease->addr_.toUint32());
        }
        return addresses;
    });
}

}  // namespace kea_blq
