// What a TreeWriter is told, as bytes: numbers are little-endian, a text is its length (u32) and its bytes. src/unpack/instructions.ts writes them.
//
//   enter      path                        the directory that the following names are in, from the root; empty: the root itself
//   directory  name                        made with mode 0700; `finish` gives it its attributes when its children are there
//   file       name attributes size n n*(fileOffset source sourceOffset length)      u64, u32, then u64 u32 u64 u64 each
//   staged     name attributes size number                                            u64, u32
//   symlink    name attributes target
//   special    name attributes type major minor                                       u32 each; type: S_IFIFO, S_IFCHR or S_IFBLK
//   link       name target                 another name of what the path `target` from the root is
//   finish     attributes                  of the directory that was entered
//
//   source: the position in the writer's list, or, with stagedSource, the number of a staged file, which stays
//   attributes: mode u32, uid u32, gid u32, seconds i64, nanoseconds u32, n u32, n*(name, value)

#pragma once

#include <bit>
#include <cstring>
#include <string>

#include "errors.h"
#include "guard.h"

namespace skim {

constexpr uint32_t stagedSource = 0x80000000;

enum class Instruction : uint8_t { enter = 1, directory, file, staged, symlink, special, link, finish };

class InstructionReader {
 public:
  explicit InstructionReader(Bytes bytes) : rest_(bytes) {}

  bool atEnd() const { return rest_.empty(); }
  Instruction instruction() { return static_cast<Instruction>(take(1)[0]); }
  uint32_t u32() { return number<uint32_t>(); }
  uint64_t u64() { return number<uint64_t>(); }
  int64_t i64() { return number<int64_t>(); }
  Bytes bytes() { return take(u32()); }

  // A path or a name, for a system call.
  std::string text() {
    const Bytes found = bytes();
    std::string text(found.begin(), found.end());
    if (text.find('\0') != std::string::npos) throw misuse("a name with a NUL in it");
    return text;
  }

  // One part of a path: nothing that leads elsewhere.
  std::string name() {
    std::string name = text();
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) throw misuse("not a name: " + name);
    return name;
  }

 private:
  static_assert(std::endian::native == std::endian::little);

  Bytes take(size_t length) {
    if (length > rest_.size()) throw misuse("instructions that end early");
    const Bytes taken = rest_.first(length);
    rest_ = rest_.subspan(length);
    return taken;
  }

  template <typename Number>
  Number number() {
    Number value;
    std::memcpy(&value, take(sizeof(value)).data(), sizeof(value));
    return value;
  }

  Bytes rest_;
};

}  // namespace skim
