// FUSE connections from outside: made, looked at and ended without asking who serves them. Nothing here touches a mount.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "unique-fd.h"

namespace skim::holder {

struct Held {
  std::string id;
  std::string mountpoint;
  // The servers' own words, and what they agreed with the kernel: handed on, never read.
  std::string note;
  std::string initResult;
  // Minor number of the mount's device, which names the connection in fusectl. 0: not known.
  unsigned minor = 0;
  UniqueFd descriptor;
  // Servers that have died one after the other without having answered anything, while requests waited here.
  unsigned stuck = 0;
};

// Of a mount on `descriptor`, as src/fuse/fuse-connection.ts makes it. Returns 0 or errno.
int mountFuse(int descriptor, const std::string& mountpoint, const std::string& source, bool allowOther);

// True for /dev/fuse. Asks no filesystem, whatever the descriptor may be of.
bool isFuseDevice(int descriptor);

// Requests that wait for an answer; nothing where fusectl cannot tell.
std::optional<uint64_t> waitingRequests(unsigned minor);

// Whoever waits gets an error, and so does everybody from then on. False where that cannot be done.
bool abortConnection(unsigned minor);

}  // namespace skim::holder
