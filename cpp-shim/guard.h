// Helpers of both halves of the shim.

#pragma once

#include "kea-blq/include/shim.h"
#include "kea-blq/src/ffi/bridge.rs.h"

#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace kea_blq {

// Runs `body` and turns each exception into std::runtime_error, which the bridge passes to Rust as an error.
// Boost's and Kea's own exceptions derive from std::exception; any other would end the process.
template <typename Body>
auto guarded(Body&& body) -> decltype(body()) {
    try {
        return std::forward<Body>(body)();
    } catch (const std::exception& error) {
        throw std::runtime_error(error.what());
    } catch (...) {
        throw std::runtime_error("an exception of unknown type");
    }
}

// Octets lent to Rust for the time of a call, of any type with data() and size().
template <typename Octets>
rust::Slice<const std::uint8_t> lent(const Octets& from) {
    static_assert(sizeof(*from.data()) == 1, "octets");
    if (from.empty()) {
        return {};
    }
    return {reinterpret_cast<const std::uint8_t*>(from.data()), from.size()};
}

// A copy of octets for Rust.
template <typename Octets>
rust::Vec<std::uint8_t> octets(const Octets& from) {
    return copied(lent(from));
}

// Text for Rust, whose strings are UTF-8: other octets are replaced.
inline rust::String text(const std::string& from) {
    return rust::String::lossy(from);
}

// Text from Rust.
inline std::string text(rust::Str from) {
    return std::string(from.data(), from.size());
}

}  // namespace kea_blq
