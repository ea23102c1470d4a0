#include "fuse/operation-names.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "fuse/metadata.h"

namespace skim::fuse {
namespace {

constexpr std::array<const char*, opcodesMax> names = [] {
  std::array<const char*, opcodesMax> table{};
  table[FUSE_LOOKUP] = "lookup";
  table[FUSE_FORGET] = "forget";
  table[FUSE_GETATTR] = "getattr";
  table[FUSE_SETATTR] = "setattr";
  table[FUSE_READLINK] = "readlink";
  table[FUSE_SYMLINK] = "symlink";
  table[FUSE_MKNOD] = "mknod";
  table[FUSE_MKDIR] = "mkdir";
  table[FUSE_UNLINK] = "unlink";
  table[FUSE_RMDIR] = "rmdir";
  table[FUSE_RENAME] = "rename";
  table[FUSE_LINK] = "link";
  table[FUSE_OPEN] = "open";
  table[FUSE_READ] = "read";
  table[FUSE_WRITE] = "write";
  table[FUSE_STATFS] = "statfs";
  table[FUSE_RELEASE] = "release";
  table[FUSE_FSYNC] = "fsync";
  table[FUSE_SETXATTR] = "setxattr";
  table[FUSE_GETXATTR] = "getxattr";
  table[FUSE_LISTXATTR] = "listxattr";
  table[FUSE_REMOVEXATTR] = "removexattr";
  table[FUSE_FLUSH] = "flush";
  table[FUSE_INIT] = "init";
  table[FUSE_OPENDIR] = "opendir";
  table[FUSE_READDIR] = "readdir";
  table[FUSE_RELEASEDIR] = "releasedir";
  table[FUSE_FSYNCDIR] = "fsyncdir";
  table[FUSE_GETLK] = "getlk";
  table[FUSE_SETLK] = "setlk";
  table[FUSE_SETLKW] = "setlkw";
  table[FUSE_ACCESS] = "access";
  table[FUSE_CREATE] = "create";
  table[FUSE_INTERRUPT] = "interrupt";
  table[FUSE_BMAP] = "bmap";
  table[FUSE_DESTROY] = "destroy";
  table[FUSE_IOCTL] = "ioctl";
  table[FUSE_POLL] = "poll";
  table[FUSE_NOTIFY_REPLY] = "notify_reply";
  table[FUSE_BATCH_FORGET] = "batch_forget";
  table[FUSE_FALLOCATE] = "fallocate";
  table[FUSE_READDIRPLUS] = "readdirplus";
  table[FUSE_RENAME2] = "rename2";
  table[FUSE_LSEEK] = "lseek";
  table[FUSE_COPY_FILE_RANGE] = "copy_file_range";
  table[FUSE_SETUPMAPPING] = "setupmapping";
  table[FUSE_REMOVEMAPPING] = "removemapping";
  table[FUSE_SYNCFS] = "syncfs";
  table[FUSE_TMPFILE] = "tmpfile";
  table[opStatx] = "statx";
  return table;
}();

// Text of a name for a line: control characters and what is not ASCII as \xNN, at most so many bytes.
std::string printable(Bytes bytes, size_t lengthMax = 255) {
  std::string text;
  for (size_t i = 0; i < bytes.size() && i < lengthMax && bytes[i] != 0; i++) {
    if (bytes[i] >= 0x20 && bytes[i] < 0x7f && bytes[i] != '"' && bytes[i] != '\\') {
      text += static_cast<char>(bytes[i]);
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\x%02x", bytes[i]);
      text += escaped;
    }
  }
  return text;
}

std::string details(const fuse_in_header& header, Bytes body) {
  char text[96] = "";
  fuse_read_in read;
  fuse_interrupt_in interrupt;
  fuse_getxattr_in xattr;
  switch (header.opcode) {
    case FUSE_READ:
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
      if (take(body, read))
        std::snprintf(text, sizeof(text), ", %u bytes at %llu", read.size, static_cast<unsigned long long>(read.offset));
      return text;
    case FUSE_INTERRUPT:
      if (take(body, interrupt))
        std::snprintf(text, sizeof(text), ", request %llu", static_cast<unsigned long long>(interrupt.unique));
      return text;
    case FUSE_LOOKUP:
      return ", \"" + printable(body) + "\"";
    case FUSE_GETXATTR:
    case FUSE_LISTXATTR: {
      if (!take(body, xattr)) return "";
      std::snprintf(text, sizeof(text), ", %u bytes", xattr.size);
      const std::string name = header.opcode == FUSE_GETXATTR ? ", " + printable(body.subspan(sizeof(xattr))) : "";
      return name + text;
    }
    default:
      return "";
  }
}

}  // namespace

const char* operationName(uint32_t opcode) {
  return opcode < opcodesMax && names[opcode] ? names[opcode] : "unknown";
}

std::string traceLine(const std::string& label, const fuse_in_header& header, Bytes body, int error, size_t bytes, uint64_t durationNs) {
  char head[96];
  char tail[160];
  std::snprintf(head, sizeof(head), "%s ino %llu", operationName(header.opcode),
                static_cast<unsigned long long>(header.nodeid));
  char errorText[64] = "";
  if (error != 0)
    std::snprintf(tail, sizeof(tail), ", pid %u: errno %d (%s), %llu us\n", header.pid, error,
                  strerror_r(error, errorText, sizeof(errorText)), static_cast<unsigned long long>(durationNs / 1000));
  else
    std::snprintf(tail, sizeof(tail), ", pid %u: %zu bytes, %llu us\n", header.pid, bytes,
                  static_cast<unsigned long long>(durationNs / 1000));
  return "fuse " + label + ": " + head + details(header, body) + tail;
}

}  // namespace skim::fuse
