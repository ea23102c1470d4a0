// Packets between a server and its holder: fields that each end with NUL, and at most one descriptor (unix(7), SOCK_SEQPACKET).
//
// A request is VERB, a number that its answer repeats, then the arguments; numbers are decimal. Who gets more fields than it knows ignores the rest, so that
// programs of different versions understand each other. src/holder/holder-protocol.ts is the other side, and lists every verb.

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "unique-fd.h"

namespace skim::holder {

// What one packet may have: a command with its arguments and environment. Below the kernel's usual limit of 208 KiB.
constexpr size_t packetBytesMax = 192 * 1024;

struct Packet {
  // Views of the receiver's memory, until it receives again.
  std::vector<std::string_view> fields;
  UniqueFd descriptor;

  // Empty where there is none.
  std::string_view field(size_t position) const { return position < fields.size() ? fields[position] : std::string_view(); }
  // Nothing where the field is no number from 0 to `most`.
  std::optional<uint64_t> number(size_t position, uint64_t most = UINT64_MAX) const;
};

enum class Received { packet, nothing, closed };

// Takes the next packet of a socket, without waiting. One that is too long or does not end with NUL counts as the end of the connection. Descriptors
// beyond the first are closed.
Received receivePacket(int socket, Packet& packet);

// Sends without waiting. False where the other side is gone, or has not taken what it was sent before.
bool sendPacket(int socket, const std::vector<std::string_view>& fields, int descriptor = -1);

}  // namespace skim::holder
