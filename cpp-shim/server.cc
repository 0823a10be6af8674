// The daemon, its log, its files and its configuration.

#include <config.h>

#include "guard.h"

#include <cc/data.h>
#include <dhcp/iface_mgr.h>
#include <dhcp/option_space.h>
#include <dhcpsrv/cfg_multi_threading.h>
#include <dhcpsrv/cfgmgr.h>
#include <dhcpsrv/host.h>
#include <dhcpsrv/host_mgr.h>
#include <dhcpsrv/lease.h>
#include <dhcpsrv/shared_network.h>
#include <dhcpsrv/srv_config.h>
#include <dhcpsrv/subnet.h>
#include <hooks/callout_handle.h>
#include <hooks/hooks_manager.h>
#include <hooks/library_handle.h>
#include <hooks/server_hooks.h>
#include <log/log_dbglevels.h>
#include <log/logger.h>
#include <log/message_dictionary.h>
#include <process/daemon.h>
#include <stats/stats_mgr.h>
#include <util/multi_threading_mgr.h>
#if KEA_BLQ_HOOKS_VERSION >= 30000
#include <util/filesystem.h>
#endif

#include <dlfcn.h>

namespace kea_blq {
namespace {

using isc::dhcp::CfgMgr;
using isc::dhcp::CfgOption;
using isc::dhcp::Host;
using isc::dhcp::HostMgr;
using isc::dhcp::HostPageSize;
using isc::dhcp::Lease;
using isc::dhcp::OptionDescriptor;
using isc::dhcp::SrvConfigPtr;
using isc::log::Logger;
using isc::log::MessageDictionary;

// Created at the first use: to load the library must have no effect.
Logger& logger() {
    static Logger logger("blq-hooks");
    return logger;
}

SrvConfigPtr server_config(const CalloutHandle& handle) {
    SrvConfigPtr config;
    handle.getArgument("server_config", config);
    if (!config) {
        throw std::runtime_error("argument server_config is null");
    }
    return config;
}

#if KEA_BLQ_HOOKS_VERSION >= 20400
bool never_send(const OptionDescriptor& option) {
    return option.cancelled_;
}
#else
bool never_send(const OptionDescriptor&) {
    return false;
}
#endif

#if KEA_BLQ_HOOKS_VERSION >= 30000
void restrict_to(rust::Vec<rust::String>& classes, const OptionDescriptor& option) {
    for (const auto& name : option.client_classes_) {
        classes.push_back(text(name));
    }
}
#else
void restrict_to(rust::Vec<rust::String>&, const OptionDescriptor&) {
}
#endif

#if KEA_BLQ_HOOKS_VERSION >= 20603
// Whether Kea refuses files outside of its directories: it does not with the command line option -X.
bool enforces_paths() {
#if KEA_BLQ_HOOKS_VERSION >= 30000
    return isc::util::file::PathChecker::shouldEnforceSecurity();
#else
    return true;
#endif
}

std::string checked_data_file(const std::string& name) {
    try {
        return CfgMgr::instance().validatePath(name);
    } catch (const std::exception&) {
        if (enforces_paths()) {
            throw;
        }
        // Kea uses the name as it is, after a warning.
        return name;
    }
}
#else
// Kea opens any file.
std::string checked_data_file(const std::string& name) {
    return name;
}
#endif

// Appends the options of one place, which `place` names in each of them.
template <typename Place>
void append(rust::Vec<KeaOption>& all, const CfgOption& options, KeaScope scope, Place&& place) {
    const auto found = options.getAll(DHCP4_OPTION_SPACE);
    if (!found) {
        return;
    }
    for (const auto& option : *found) {
        if (!option.option_) {
            continue;
        }
        KeaOption copy{};
        copy.scope = scope;
        copy.code = option.option_->getType();
        copy.never_send = never_send(option);
        copy.always_send = option.persistent_;
        if (!copy.never_send) {
            // The value of an option that is never sent may have any form.
            copy.value = octets(option.option_->toBinary());
        }
        restrict_to(copy.client_classes, option);
        place(copy);
        all.push_back(std::move(copy));
    }
}

void append_options(rust::Vec<KeaOption>& all, const Host& host, isc::dhcp::SubnetID subnet) {
    append(all, *host.getCfgOption4(), KeaScope::Reservation, [&](KeaOption& option) {
        option.subnet = subnet;
        option.name = text(Host::getIdentifierName(host.getIdentifierType()));
        option.identifier = octets(host.getIdentifier());
        option.first = host.getIPv4Reservation().toUint32();
    });
}

void append_reservations(rust::Vec<KeaOption>& all, const isc::dhcp::SrvConfig& config,
                         isc::dhcp::SubnetID subnet) {
    for (const auto& host : config.getCfgHosts()->getAll4(subnet)) {
        append_options(all, *host, subnet);
    }
}

SrvConfigPtr current_config() {
    const auto config = CfgMgr::instance().getCurrentCfg();
    if (!config) {
        throw std::runtime_error("there is no configuration");
    }
    return config;
}

// Kea begins with an empty configuration of number 0; each one that it puts in force has another number.
bool has_committed(const SrvConfigPtr& current) {
    return current && current->getSequence() != 0;
}

// Runs a control command of this library. Kea sends the argument `response` back, so it is always set.
int run_command(CalloutHandle& handle) {
    isc::data::ConstElementPtr response;
    try {
        isc::data::ConstElementPtr command;
        handle.getArgument("command", command);
        const auto answer = control(lent(command->str()));
        response = isc::data::Element::fromJSON(std::string(answer.begin(), answer.end()));
    } catch (...) {
        // The answer was empty: the log has the reason.
    }
    try {
        if (!response) {
            auto failure = isc::data::Element::createMap();
            failure->set("result", isc::data::Element::create(1));
            failure->set("text", isc::data::Element::create(
                                     std::string("the command failed: see the log")));
            response = failure;
        }
        handle.setArgument("response", response);
        return 0;
    } catch (...) {
        return 1;
    }
}

rust::Vec<KeaOption> all_options(const SrvConfigPtr& server_config) {
    const isc::dhcp::ConstSrvConfigPtr config = server_config;
    rust::Vec<KeaOption> all;
    append(all, *config->getCfgOption(), KeaScope::Global, [](KeaOption&) {});
    append_reservations(all, *config, 0);
    for (const auto& network : *server_config->getCfgSharedNetworks4()->getAll()) {
        append(all, *network->getCfgOption(), KeaScope::SharedNetwork,
               [&](KeaOption& option) { option.name = text(network->getName()); });
    }
    for (const auto& subnet : *config->getCfgSubnets4()->getAll()) {
        append(all, *subnet->getCfgOption(), KeaScope::Subnet,
               [&](KeaOption& option) { option.subnet = subnet->getID(); });
        for (const auto& pool : subnet->getPools(Lease::TYPE_V4)) {
            append(all, *pool->getCfgOption(), KeaScope::Pool, [&](KeaOption& option) {
                option.subnet = subnet->getID();
                option.first = pool->getFirstAddress().toUint32();
                option.last = pool->getLastAddress().toUint32();
            });
        }
        append_reservations(all, *config, subnet->getID());
    }
    for (const auto& defined : *config->getClientClassDictionary()->getClasses()) {
        append(all, *defined->getCfgOption(), KeaScope::Class,
               [&](KeaOption& option) { option.name = text(defined->getName()); });
    }
    return all;
}

}  // namespace

rust::String process_name() {
    return guarded([] { return text(isc::process::Daemon::getProcName()); });
}

void register_message(rust::Str id) {
    // If the library was loaded before, the dictionary has the message, and add() has no effect.
    guarded([&] { MessageDictionary::globalDictionary()->add(text(id), "%1"); });
}

bool log_enabled(KeaSeverity severity) {
    return guarded([&] {
        switch (severity) {
        case KeaSeverity::Debug:
            return logger().isDebugEnabled(isc::log::DBGLVL_TRACE_BASIC);
        case KeaSeverity::Info:
            return logger().isInfoEnabled();
        case KeaSeverity::Warning:
            return logger().isWarnEnabled();
        default:
            return logger().isErrorEnabled();
        }
    });
}

void log(KeaSeverity severity, rust::Str id, rust::Str message) {
    guarded([&] {
        const std::string ident = text(id);
        const std::string argument = text(message);
        switch (severity) {
        case KeaSeverity::Debug:
            logger().debug(isc::log::DBGLVL_TRACE_BASIC, ident.c_str()).arg(argument);
            break;
        case KeaSeverity::Info:
            logger().info(ident.c_str()).arg(argument);
            break;
        case KeaSeverity::Warning:
            logger().warn(ident.c_str()).arg(argument);
            break;
        default:
            logger().error(ident.c_str()).arg(argument);
        }
    });
}

rust::Vec<std::uint8_t> parameters(LibraryHandle& library) {
    return guarded([&] {
        const auto parameters = library.getParameters();
        return parameters ? octets(parameters->str()) : rust::Vec<std::uint8_t>();
    });
}

void register_command(LibraryHandle& library, rust::Str name) {
    guarded([&] { library.registerCommandCallout(text(name), run_command); });
}

void set_statistic(rust::Str name, std::int64_t value) {
    guarded([&] { isc::stats::StatsMgr::instance().setValue(text(name), value); });
}

void add_statistic(rust::Str name, std::int64_t difference) {
    guarded([&] { isc::stats::StatsMgr::instance().addValue(text(name), difference); });
}

void forgo(LibraryHandle& library, rust::Str point) {
    guarded([&] { library.deregisterAllCallouts(text(point)); });
}

rust::Vec<std::uint8_t> staged_configuration() {
    return guarded([] {
        const auto config = CfgMgr::instance().getStagingCfg();
        return config ? octets(config->toElement()->str()) : rust::Vec<std::uint8_t>();
    });
}

rust::String data_directory() {
    return guarded([] {
        const std::string directory = CfgMgr::instance().getDataDir();
        return text(directory);
    });
}

rust::String data_file(rust::Str name) {
    return guarded([&] { return text(checked_data_file(text(name))); });
}

rust::Vec<rust::String> libraries() {
    return guarded([] {
        rust::Vec<rust::String> names;
        for (const auto& name : isc::hooks::HooksManager::getLibraryNames()) {
            names.push_back(text(name));
        }
        return names;
    });
}

bool library_exports(rust::Str file, rust::Str symbol) {
    return guarded([&] {
        // The library is loaded already, or not at all.
        void* const library = dlopen(text(file).c_str(), RTLD_LAZY | RTLD_NOLOAD);
        if (library == nullptr) {
            return false;
        }
        const bool exports = dlsym(library, text(symbol).c_str()) != nullptr;
        dlclose(library);
        return exports;
    });
}

rust::Vec<std::uint8_t> configuration(const CalloutHandle& handle) {
    return guarded([&] { return octets(server_config(handle)->toElement()->str()); });
}

rust::Vec<KeaOption> configured_options(const CalloutHandle& handle) {
    return guarded([&] { return all_options(server_config(handle)); });
}

bool has_configuration() {
    return guarded([] { return has_committed(CfgMgr::instance().getCurrentCfg()); });
}

rust::Vec<std::uint8_t> current_configuration() {
    return guarded([] { return octets(current_config()->toElement()->str()); });
}

rust::Vec<KeaOption> current_options() {
    return guarded([] { return all_options(current_config()); });
}

bool has_host_database() {
    return guarded([] { return !HostMgr::instance().getHostDataSourceList().empty(); });
}

KeaReservations database_reservations(std::size_t source, std::uint64_t after,
                                      std::size_t limit) {
    return guarded([&] {
        KeaReservations page{};
        const auto hosts = HostMgr::instance().getPage4(source, after, HostPageSize(limit));
        page.source = source;
        for (const auto& host : hosts) {
            KeaReservation copy{};
            copy.subnet = host->getIPv4SubnetID();
            copy.identifier_type = text(Host::getIdentifierName(host->getIdentifierType()));
            copy.identifier = octets(host->getIdentifier());
            copy.address = host->getIPv4Reservation().toUint32();
            copy.hostname = text(host->getHostname());
            append_options(page.options, *host, copy.subnet);
            page.reservations.push_back(std::move(copy));
            page.last = host->getHostId();
        }
        return page;
    });
}

void reject(CalloutHandle& handle, rust::Str error) {
    guarded([&] {
        handle.setArgument("error", text(error));
        handle.setStatus(CalloutHandle::NEXT_STEP_DROP);
    });
}

void enter_critical_section() {
    guarded([] { isc::util::MultiThreadingMgr::instance().enterCriticalSection(); });
}

void exit_critical_section() {
    guarded([] { isc::util::MultiThreadingMgr::instance().exitCriticalSection(); });
}

void watch(std::int32_t descriptor) {
    guarded([&] {
        isc::dhcp::IfaceMgr::instance().addExternalSocket(descriptor, [](int) { tick(); });
    });
}

void unwatch(std::int32_t descriptor) {
    guarded([&] { isc::dhcp::IfaceMgr::instance().deleteExternalSocket(descriptor); });
}

rust::Vec<std::uint8_t> status_of_hooks() {
    return guarded([] {
        // Hooks complete a response as in Kea itself, but Kea logs nothing.
        const int point =
            isc::hooks::ServerHooks::getServerHooks().findIndex("command_processed");
        auto status = isc::data::Element::createMap();
        status->set("result", isc::data::Element::create(0));
        status->set("arguments", isc::data::Element::createMap());
        isc::data::ConstElementPtr response = status;
        const auto handle = isc::hooks::HooksManager::createCalloutHandle();
        handle->setArgument("name", std::string("status-get"));
        handle->setArgument("arguments", isc::data::ConstElementPtr());
        handle->setArgument("response", response);
        isc::hooks::HooksManager::callCallouts(point, *handle);
        handle->getArgument("response", response);
        return response ? octets(response->str()) : rust::Vec<std::uint8_t>();
    });
}

void restore_threads() {
    guarded([] {
        const auto current = CfgMgr::instance().getCurrentCfg();
        if (has_committed(current)) {
            isc::dhcp::CfgMultiThreading::apply(current->getDHCPMultiThreading());
        }
    });
}

}  // namespace kea_blq
