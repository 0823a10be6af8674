// What callouts are told, and leases.

#include <config.h>

#include "guard.h"

#include <asiolink/io_address.h>
#include <cc/data.h>
#include <dhcp/dhcp4.h>
#include <dhcp/option.h>
#include <dhcp/pkt4.h>
#include <dhcpsrv/lease.h>
#include <dhcpsrv/lease_mgr.h>
#include <dhcpsrv/lease_mgr_factory.h>
#include <hooks/callout_handle.h>
#if __has_include(<dhcpsrv/tracking_lease_mgr.h>)
#include <dhcpsrv/tracking_lease_mgr.h>
#define KEA_BLQ_TRACKING 1
#endif

namespace kea_blq {
namespace {

using isc::asiolink::IOAddress;
using isc::data::ConstElementPtr;
using isc::data::Element;
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

// Whether to look for the relay agent information that is stored with a lease.
enum class Context { LEAVE, LOOK };

// What a map has under a name; null if it has not, or is no map.
ConstElementPtr in(const ConstElementPtr& map, const std::string& name) {
    return map && map->getType() == Element::map ? map->get(name) : ConstElementPtr();
}

// The text that stands for the relay agent information in a lease's user-context: up to Kea 2.2
// it is there itself, later in a map.
void find_relay_agent_info(const Lease4& lease, std::string& found) {
    static const std::string OF_KEA("ISC"), INFO("relay-agent-info"), TEXT("sub-options");
    found.clear();
    auto info = in(in(lease.getContext(), OF_KEA), INFO);
    if (const auto inner = in(info, TEXT)) {
        info = inner;
    }
    if (info && info->getType() == Element::string) {
        info->getValue(found);
    }
}

// Lends a lease to `take`; `scratch` spares an allocation for each of many.
template <typename Take>
void lend(const Lease4& lease, Context context, std::string& scratch, Take&& take) {
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
        find_relay_agent_info(lease, scratch);
        values.relay_agent_info = lent(scratch);
    }
    take(values);
}

// Hands leases over.
void hand_over(const Lease4Collection& leases, Context context, LeaseTaker& taker) {
    std::string scratch;
    for (const auto& lease : leases) {
        if (lease) {
            lend(*lease, context, scratch, [&](const KeaLease& values) { taker.take(values); });
        }
    }
}

// An argument of a callout. One that is missing or of another type throws.
template <typename Value>
Value argument(const CalloutHandle& handle, const char* name) {
    Value value{};
    handle.getArgument(name, value);
    return value;
}

// A callout's argument that must not be null.
template <typename Pointer>
Pointer pointer(const CalloutHandle& handle, const char* name) {
    auto value = argument<Pointer>(handle, name);
    if (!value) {
        throw std::runtime_error(std::string("argument ") + name + " is null");
    }
    return value;
}

// Hands the leases of an argument over.
void hand_over(const CalloutHandle& handle, const char* name, Context context, LeaseTaker& taker) {
    hand_over(*pointer<Lease4CollectionPtr>(handle, name), context, taker);
}

// An option as Kea has read it from a message, or as another hook has left it; null if there is
// none. Within a callout Pkt4::getOption would make a copy, and put it into the packet as well.
const Option* option(const Pkt4& message, std::uint16_t code) {
    const auto found = message.options_.find(code);
    return found == message.options_.end() ? nullptr : found->second.get();
}

// The value of an option that has sub-options, in the form in which Kea stores it with a lease and
// sends it back: mostly each sub-option once, in the order of their codes. Empty if there is none, or
// one that cannot be written, which Kea could neither store nor send.
rust::Vec<std::uint8_t> written(const Option* option) {
    try {
        return option != nullptr ? octets(option->toBinary()) : rust::Vec<std::uint8_t>();
    } catch (const std::exception&) {
        return {};
    }
}

LeaseMgr& lease_manager() {
    return LeaseMgrFactory::instance();
}

#ifdef KEA_BLQ_TRACKING
// Under this name the lease manager knows who registered.
constexpr char OWNER[] = "blq";

// Runs in the middle of the lease manager's own work: nothing may get out.
template <typename Tell>
void telling(const isc::dhcp::LeasePtr& lease, Tell&& tell) noexcept {
    try {
        const auto* lease4 = dynamic_cast<const Lease4*>(lease.get());
        if (lease4 != nullptr) {
            tell(*lease4);
        }
    } catch (...) {
        change_missed();
    }
}
#endif

}  // namespace

KeaMessage message(const CalloutHandle& handle) {
    return guarded([&] {
        // The handle holds it until the callout returns.
        const auto query = pointer<Pkt4Ptr>(handle, "query4");
        KeaMessage message{};
        message.message_type = query->getType();
        message.octets = lent(query->data_);
        if (const auto hardware = query->getHWAddr()) {
            message.hardware_type = hardware->htype_;
            message.hardware = lent(hardware->hwaddr_);
        }
        if (const auto* client_id = option(*query, isc::dhcp::DHO_DHCP_CLIENT_IDENTIFIER)) {
            message.client_id = lent(client_id->getData());
        }
        message.relay = query->getGiaddr().toUint32();
        message.relay_agent_information =
            written(option(*query, isc::dhcp::DHO_DHCP_AGENT_OPTIONS));
        for (const auto& name : query->getClasses()) {
            message.classes.push_back(KeaName{lent(name)});
        }
        return message;
    });
}

void leases(const CalloutHandle& handle, LeaseTaker& taker) {
    guarded([&] { hand_over(handle, "leases4", Context::LOOK, taker); });
}

void deleted_leases(const CalloutHandle& handle, LeaseTaker& taker) {
    guarded([&] { hand_over(handle, "deleted_leases4", Context::LEAVE, taker); });
}

void lease(const CalloutHandle& handle, LeaseTaker& taker) {
    guarded([&] { hand_over({pointer<Lease4Ptr>(handle, "lease4")}, Context::LEAVE, taker); });
}

KeaAnswer answer(const CalloutHandle& handle) {
    return guarded([&] {
        KeaAnswer copy{};
        if (const auto answer = argument<Pkt4Ptr>(handle, "response4")) {
            copy.message_type = answer->getType();
            copy.address = answer->getYiaddr().toUint32();
        }
        return copy;
    });
}

std::uint32_t offer_lifetime(const CalloutHandle& handle) {
    return guarded([&] { return argument<std::uint32_t>(handle, "offer_lifetime"); });
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

#ifdef KEA_BLQ_TRACKING
bool track_leases() {
    return guarded([] {
        using isc::dhcp::TrackingLeaseMgr;
        const auto changed = [](const isc::dhcp::LeasePtr& lease) {
            telling(lease, [](const Lease4& lease4) {
                if (wants_change(lease4.state_)) {
                    std::string scratch;
                    lend(lease4, Context::LOOK, scratch, lease_changed);
                }
            });
        };
        const auto deleted = [](const isc::dhcp::LeasePtr& lease) {
            telling(lease, [](const Lease4& lease4) { lease_deleted(lease4.addr_.toUint32()); });
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
        hand_over(lease_manager().getLeases4(IOAddress(after), LeasePageSize(limit)),
                  Context::LOOK, taker);
    });
}

void lease_of(std::uint32_t address, LeaseTaker& taker) {
    guarded([&] {
        hand_over({lease_manager().getLease4(IOAddress(address))}, Context::LOOK, taker);
    });
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
