#include "holder/connection.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace skim::holder {
namespace {

constexpr const char* fusectl = "/sys/fs/fuse/connections";

// Character device 10:229 (Documentation/admin-guide/devices.txt).
constexpr uint32_t fuseMajor = 10;
constexpr uint32_t fuseMinor = 229;

std::string fileOf(unsigned minor, const char* name) { return std::string(fusectl) + "/" + std::to_string(minor) + "/" + name; }

UniqueFd openControl(unsigned minor, const char* name, int flags) {
  UniqueFd fd(open(fileOf(minor, name).c_str(), flags | O_CLOEXEC));
  if (fd.get() >= 0 || access(fileOf(minor, "").c_str(), F_OK) == 0) return fd;
  // There on every machine with systemd; elsewhere it is ours to mount, once: EBUSY where it is.
  if (mount("fusectl", fusectl, "fusectl", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) return fd;
  return UniqueFd(open(fileOf(minor, name).c_str(), flags | O_CLOEXEC));
}

}  // namespace

int mountFuse(int descriptor, const std::string& mountpoint, const std::string& source, bool allowOther) {
  const std::string options = "fd=" + std::to_string(descriptor) + ",rootmode=40000,user_id=" + std::to_string(geteuid()) +
                              ",group_id=" + std::to_string(getegid()) + ",default_permissions" + (allowOther ? ",allow_other" : "");
  // Neither MS_NOSUID nor MS_NODEV: setuid programs and device nodes of an image must work.
  return mount(source.c_str(), mountpoint.c_str(), "fuse.skim", MS_RDONLY, options.c_str()) == 0 ? 0 : errno;
}

bool isFuseDevice(int descriptor) {
  struct statx status {};
  if (statx(descriptor, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) != 0) return false;
  return S_ISCHR(status.stx_mode) && status.stx_rdev_major == fuseMajor && status.stx_rdev_minor == fuseMinor;
}

std::optional<uint64_t> waitingRequests(unsigned minor) {
  if (minor == 0) return std::nullopt;
  const UniqueFd fd = openControl(minor, "waiting", O_RDONLY);
  char text[32];
  const ssize_t got = fd.get() < 0 ? -1 : read(fd.get(), text, sizeof(text) - 1);
  if (got <= 0) return std::nullopt;
  text[got] = '\0';
  return strtoull(text, nullptr, 10);
}

bool abortConnection(unsigned minor) {
  const UniqueFd fd = openControl(minor, "abort", O_WRONLY);
  return fd.get() >= 0 && write(fd.get(), "1", 1) == 1;
}

}  // namespace skim::holder
