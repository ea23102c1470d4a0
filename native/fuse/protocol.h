// The FUSE kernel protocol, as far as this engine speaks it: 7.31 to 7.45.
//
// Structures and most numbers are the kernel's own header; the headers of the oldest distribution that skim is built on end at 7.38, so what is
// newer stands here, with the kernel's values (include/uapi/linux/fuse.h).

#pragma once

#include <linux/fuse.h>

#include <cstdint>

namespace skim::fuse {

inline constexpr uint32_t protocolMajor = 7;
// Linux 5.4: the first with all that this engine relies on (opens and directory opens without a request, cached symlinks and directories).
inline constexpr uint32_t protocolMinorMin = 31;
inline constexpr uint32_t protocolMinorMax = 45;

inline constexpr uint32_t opStatx = 52;

// Flags of INIT, both words together: the second one holds bits 32 and up.
inline constexpr uint64_t flagInitExtended = uint64_t{1} << 30;
inline constexpr uint64_t flagNoExportSupport = uint64_t{1} << 38;
inline constexpr uint64_t flagHasResend = uint64_t{1} << 39;
inline constexpr uint64_t flagAllowIdmap = uint64_t{1} << 40;

// A message to the kernel that answers no request has unique 0 and its code in the place of the error.
inline constexpr int32_t notifyResend = 7;

// Bytes that the INIT reply must have from 7.23 on.
static_assert(sizeof(fuse_init_out) == 64);
static_assert(sizeof(fuse_in_header) == 40 && sizeof(fuse_out_header) == 16);
static_assert(sizeof(fuse_entry_out) == 128 && sizeof(fuse_attr_out) == 104);

}  // namespace skim::fuse
