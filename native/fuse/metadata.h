// Answers to every request that needs no file bytes: from the tree alone, at once.
//
// Each function takes the body of a request, whatever it may hold, and appends its answer to an Output. It returns 0 or a positive errno. What a
// kernel would never send (a name without its NUL, a body that is too short, a node that does not exist) is an errno like any other.

#pragma once

#include <cstdint>
#include <cstring>

#include "fuse/image-tree.h"
#include "fuse/protocol.h"

namespace skim::fuse {

// Room for the body of a reply.
class Output {
 public:
  Output(uint8_t* bytes, size_t room) : bytes_(bytes), room_(room) {}

  size_t length() const { return length_; }
  size_t room() const { return room_ - length_; }

  // False, with nothing appended, where it does not fit.
  bool append(const void* bytes, size_t length) {
    if (length > room()) return false;
    if (length > 0) std::memcpy(bytes_ + length_, bytes, length);
    length_ += length;
    return true;
  }
  template <typename Struct>
  bool append(const Struct& value) {
    return append(&value, sizeof(value));
  }
  // `length` bytes to be filled in place; the caller has checked the room.
  uint8_t* extend(size_t length) {
    uint8_t* at = bytes_ + length_;
    length_ += length;
    return at;
  }

 private:
  uint8_t* bytes_;
  size_t room_;
  size_t length_ = 0;
};

// The fixed part of a request's body; false where the body is too short for it.
template <typename Struct>
bool take(Bytes body, Struct& into) {
  if (body.size() < sizeof(into)) return false;
  std::memcpy(&into, body.data(), sizeof(into));
  return true;
}

// Images never change: what the kernel has seen once it need not ask for again.
inline constexpr uint64_t validSeconds = 365 * 24 * 3600;

class Metadata {
 public:
  explicit Metadata(const ImageTree& tree) : tree_(tree) {}

  int lookup(uint64_t parent, Bytes body, Output& output) const;
  int getattr(uint64_t ino, Output& output) const;
  int readlink(uint64_t ino, Output& output) const;
  int readdir(uint64_t ino, Bytes body, Output& output, bool plus) const;
  int statfs(Output& output) const;
  // ENOSYS, which the kernel remembers for all inodes, where the image has no attribute at all.
  int getxattr(uint64_t ino, Bytes body, Output& output) const;
  int listxattr(uint64_t ino, Bytes body, Output& output) const;

 private:
  std::optional<fuse_entry_out> entry(uint32_t ino) const;

  const ImageTree& tree_;
};

}  // namespace skim::fuse
