// The C++ side of the bridge, as src/ffi/bridge.rs declares it: Kea's types in, plain values out, and no
// decisions. Functions throw no exception but std::runtime_error.

#pragma once

#include "rust/cxx.h"

#include <cstddef>
#include <cstdint>

namespace isc {
namespace dhcp {
class Pkt4;
}  // namespace dhcp
namespace hooks {
class CalloutHandle;
class LibraryHandle;
}  // namespace hooks
}  // namespace isc

namespace kea_blq {

using isc::hooks::CalloutHandle;
using isc::hooks::LibraryHandle;
using KeaPacket = isc::dhcp::Pkt4;

enum class KeaLeaseCallout : std::uint8_t;
struct KeaCommand;
struct KeaOption;
struct KeaReservation;
struct KeaReservations;
struct LeaseTaker;
enum class KeaSeverity : std::uint8_t;

// The daemon, its log and its files: server.cc.
rust::String process_name();
void register_message(rust::Str id);
bool log_enabled(KeaSeverity severity);
void log(KeaSeverity severity, rust::Str id, rust::Str text);
rust::Vec<std::uint8_t> parameters(LibraryHandle& library);
void register_command(LibraryHandle& library, rust::Str name);
void set_statistic(rust::Str name, std::int64_t value);
void add_statistic(rust::Str name, std::int64_t difference);
void forgo(LibraryHandle& library, rust::Str point);
rust::Vec<std::uint8_t> staged_configuration();
rust::String data_directory();
rust::String data_file(rust::Str name);
rust::Vec<rust::String> libraries();
bool library_exports(rust::Str file, rust::Str symbol);

// The configuration: server.cc.
rust::Vec<std::uint8_t> configuration(const CalloutHandle& handle);
rust::Vec<KeaOption> configured_options(const CalloutHandle& handle);
bool has_configuration();
rust::Vec<std::uint8_t> current_configuration();
rust::Vec<KeaOption> current_options();
bool has_host_database();
KeaReservations database_reservations(std::size_t source, std::uint64_t after, std::size_t limit);
void reject(CalloutHandle& handle, rust::Str error);
void restore_threads();
void enter_critical_section();
void exit_critical_section();

// The main thread, and the status of hooks: server.cc.
void watch(std::int32_t descriptor);
void unwatch(std::int32_t descriptor);
rust::Vec<std::uint8_t> status_of_hooks();

// Callouts: callouts.cc.
void lend_committed(const CalloutHandle& handle, bool with_answer) noexcept;
void lend_offered(const CalloutHandle& handle) noexcept;
void lend_answered(const CalloutHandle& handle) noexcept;
void lend_received(CalloutHandle& handle) noexcept;
std::uint32_t receiving_address(const KeaPacket& packet);
void send_reply(const KeaPacket& packet, std::uint32_t to, rust::Slice<const std::uint8_t> reply);
bool listens_on(std::uint32_t address);
void lend_lease(const CalloutHandle& handle, KeaLeaseCallout callout) noexcept;
rust::String command_name(const CalloutHandle& handle);
KeaCommand command(const CalloutHandle& handle);

// Leases: callouts.cc.
bool track_leases();
void untrack_leases();
rust::String lease_database_type();
void lease_page(std::uint32_t after, std::size_t limit, LeaseTaker& taker);
void lease_of(std::uint32_t address, LeaseTaker& taker);
rust::Vec<std::uint32_t> leased_addresses(std::uint32_t subnet);

}  // namespace kea_blq
