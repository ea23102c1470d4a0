// Names of FUSE operations, as the kernel has them (enum fuse_opcode), and one line about a request for --trace-operations.

#pragma once

#include <cstdint>
#include <string>

#include "fuse/image-tree.h"
#include "fuse/protocol.h"

namespace skim::fuse {

// Opcodes from here on are counted and named together.
inline constexpr uint32_t opcodesMax = 64;

// Lower case, without FUSE_; "unknown" for what is none.
const char* operationName(uint32_t opcode);

// E.g. `fuse read ino 12, 131072 bytes at 0, pid 345: 131072 bytes, 14 us`. `error` is 0 or a positive errno, `bytes` the length of the reply's body.
std::string traceLine(const std::string& label, const fuse_in_header& header, Bytes body, int error, size_t bytes, uint64_t durationNs);

}  // namespace skim::fuse
