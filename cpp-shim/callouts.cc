// What callouts are told, and leases.

#include <config.h>

#include "guard.h"

#include <asiolink/io_address.h>
#include <cc/data.h>
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
using isc::dhcp::Lease4;
using isc::dhcp::Lease4Collection;
using isc::dhcp::Lease4CollectionPtr;
using isc::dhcp::Lease4Ptr;
using isc::dhcp::LeaseMgr;
using isc::dhcp::LeaseMgrFactory;
using isc::dhcp::LeasePageSize;
using isc::dhcp::Pkt4Ptr;

// Whether to turn a lease's user-context into text, which costs most of copying it.
enum class Context { LEAVE, TAKE };

KeaLease values(const Lease4& lease, Context context) {
    KeaLease copy{};
    copy.address = lease.addr_.toUint32();
    copy.state = lease.state_;
    copy.cltt = lease.cltt_;
    copy.valid_lifetime = lease.valid_lft_;
    copy.subnet = lease.subnet_id_;
    if (lease.hwaddr_) {
        copy.hardware_type = lease.hwaddr_->htype_;
        copy.hardware = octets(lease.hwaddr_->hwaddr_);
    }
    if (lease.client_id_) {
        copy.client_id = octets(lease.client_id_->getClientId());
    }
    copy.hostname = octets(lease.hostname_);
    if (context == Context::TAKE && lease.getContext()) {
        copy.context = octets(lease.getContext()->str());
    }
    return copy;
}

rust::Vec<KeaLease> values(const Lease4Collection& leases, Context context) {
    rust::Vec<KeaLease> copies;
    copies.reserve(leases.size());
    for (const auto& lease : leases) {
        if (lease) {
            copies.push_back(values(*lease, context));
        }
    }
    return copies;
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

// The client's message and the leases it made. Their user-context only repeats the message.
KeaExchange exchange(const CalloutHandle& handle) {
    const auto query = pointer<Pkt4Ptr>(handle, "query4");
    KeaExchange copy{};
    copy.message_type = query->getType();
    copy.octets = octets(query->data_);
    for (const auto& name : query->getClasses()) {
        copy.classes.push_back(text(name));
    }
    copy.leases = values(*pointer<Lease4CollectionPtr>(handle, "leases4"), Context::LEAVE);
    return copy;
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

KeaExchange committed(const CalloutHandle& handle) {
    return guarded([&] {
        auto copy = exchange(handle);
        copy.deleted =
            values(*pointer<Lease4CollectionPtr>(handle, "deleted_leases4"), Context::LEAVE);
        return copy;
    });
}

KeaExchange offered(const CalloutHandle& handle) {
    return guarded([&] { return exchange(handle); });
}

std::uint8_t answer_type(const CalloutHandle& handle) {
    return guarded([&] { return pointer<Pkt4Ptr>(handle, "response4")->getType(); });
}

std::uint32_t offer_lifetime(const CalloutHandle& handle) {
    return guarded([&] { return argument<std::uint32_t>(handle, "offer_lifetime"); });
}

KeaLease lease_argument(const CalloutHandle& handle) {
    return guarded([&] { return values(*pointer<Lease4Ptr>(handle, "lease4"), Context::LEAVE); });
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
                    lease_changed(values(lease4, Context::TAKE));
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

rust::Vec<KeaLease> lease_page(std::uint32_t after, std::size_t limit) {
    return guarded([&] {
        return values(lease_manager().getLeases4(IOAddress(after), LeasePageSize(limit)),
                      Context::TAKE);
    });
}

rust::Vec<KeaLease> lease_of(std::uint32_t address) {
    return guarded([&] {
        rust::Vec<KeaLease> found;
        if (const auto lease = lease_manager().getLease4(IOAddress(address))) {
            found.push_back(values(*lease, Context::TAKE));
        }
        return found;
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
