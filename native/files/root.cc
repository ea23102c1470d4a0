#include "files/root.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "files/failure.h"
#include "files/frames.h"

namespace skim::files {

namespace {

// What the kernel itself follows in one path (MAXSYMLINKS).
constexpr int linksMax = 40;
// openat2 gives EAGAIN where something was renamed while it walked `..`.
constexpr int racesMax = 1000;

UniqueFd openOwnDescriptors() {
  UniqueFd fd(::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) throw failed("opening /proc/self/fd");
  return fd;
}

unsigned long long startOf(pid_t pid) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t size = file.get() < 0 ? -1 : read(file.get(), text, sizeof text - 1);
  if (size <= 0) return 0;
  text[size] = '\0';
  // The name, the second field, may hold anything, parentheses included.
  const char* at = std::strrchr(text, ')');
  for (int field = 2; at != nullptr && field < 22; field++) at = std::strchr(at + 1, ' ');
  return at == nullptr ? 0 : std::strtoull(at + 1, nullptr, 10);
}

bool hasEnded(int pidFd) {
  pollfd poll{pidFd, POLLIN, 0};
  return ::poll(&poll, 1, 0) != 0;
}

// Without the slashes at its end, and never empty.
std::string withoutEndSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.empty() ? "." : path;
}

}  // namespace

Root Root::inside() {
  UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (root.get() < 0) throw failed("opening the root");
  return Root(std::move(root), openOwnDescriptors(), true);
}

Root Root::ofDescriptor(int fd) { return Root(UniqueFd(fd), openOwnDescriptors(), false); }

Root Root::ofProcess(pid_t pid, unsigned long long startTicks) {
  UniqueFd descriptors = openOwnDescriptors();
  UniqueFd pidFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (pidFd.get() < 0) throw failed("pinning the container's process");
  // The descriptor is one process's for ever. It has not ended after the look at its start: so that was its own.
  if (startOf(pid) != startTicks || hasEnded(pidFd.get())) throw Failure{ESRCH, "pinning the container's process"};
  if (setns(pidFd.get(), CLONE_NEWNS) != 0) throw failed("entering the container's mount namespace");
  UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (root.get() < 0) throw failed("opening the container's root");
  endWith(pidFd.get());
  return Root(std::move(root), std::move(descriptors), false, std::move(pidFd));
}

int Root::tryOpen(const std::string& path, int flags) const {
  if (path.find('\0') != std::string::npos) {
    errno = EINVAL;
    return -1;
  }
  flags |= O_CLOEXEC;
  if (isOwn_) return openat(AT_FDCWD, (path[0] == '/' ? path : "/" + path).c_str(), flags);
  open_how how{};
  how.flags = static_cast<uint64_t>(flags);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  for (int race = 0;; race++) {
    const auto fd = static_cast<int>(syscall(SYS_openat2, root_.get(), path.c_str(), &how, sizeof how));
    if (fd >= 0 || errno != EAGAIN || race == racesMax) return fd;
  }
}

UniqueFd Root::open(const std::string& path, bool follow) const {
  UniqueFd fd(tryOpen(path, O_PATH | (follow ? 0 : O_NOFOLLOW)));
  if (fd.get() < 0) throw failed("looking it up");
  return fd;
}

Place Root::place(std::string path, bool follow, const Owner* makeFor) const {
  for (int link = 0; link <= linksMax; link++) {
    path = withoutEndSlashes(std::move(path));
    const size_t slash = path.rfind('/');
    std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    if (name.empty() || name == "." || name == "..") throw Failure{EISDIR, "taking its last name"};
    UniqueFd parent = openDirectory(directory, makeFor);
    if (!follow) return {std::move(parent), std::move(name)};
    char target[4096];
    const ssize_t size = readlinkat(parent.get(), name.c_str(), target, sizeof target);
    if (size < 0 && (errno == EINVAL || errno == ENOENT)) return {std::move(parent), std::move(name)};
    if (size < 0) throw failed("reading the symlink there");
    std::string leads(target, static_cast<size_t>(size));
    path = leads[0] == '/' ? leads : directory + "/" + leads;
  }
  throw Failure{ELOOP, "following symlinks"};
}

UniqueFd Root::openDirectory(const std::string& path, const Owner* makeFor) const {
  UniqueFd fd(tryOpen(path, O_PATH | O_DIRECTORY));
  if (fd.get() >= 0) return fd;
  if (errno != ENOENT || makeFor == nullptr) throw failed("looking up its directory");
  return makeDirectories(path, *makeFor);
}

UniqueFd Root::makeDirectories(const std::string& path, const Owner& owner) const {
  UniqueFd at(tryOpen("/", O_PATH | O_DIRECTORY));
  if (at.get() < 0) throw failed("opening the root");
  std::string walked;
  for (size_t start = 0; start < path.size();) {
    const size_t slash = std::min(path.find('/', start), path.size());
    const std::string name = path.substr(start, slash - start);
    start = slash + 1;
    if (name.empty() || name == ".") continue;
    walked += "/" + name;
    UniqueFd next(tryOpen(walked, O_PATH | O_DIRECTORY));
    if (next.get() < 0 && errno == ENOENT) {
      refuseHidden(at.get(), nullptr);
      refuseHiddenName(at.get(), name);
      const bool isMade = mkdirat(at.get(), name.c_str(), 0755) == 0;
      if (!isMade && errno != EEXIST) throw failed("making its directory");
      if (isMade) {
        // By a descriptor, and only a directory: whatever has taken the name meanwhile is not handed over.
        next = UniqueFd(openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (next.get() < 0) throw failed("opening the directory made for it");
        if (statOf(next.get()).st_uid != geteuid()) throw Failure{EEXIST, "somebody else has made its directory in this moment"};
        if (fchown(next.get(), owner.uid, owner.gid) != 0) throw failed("giving the directory made for it its owner");
      } else {
        // Somebody else has just made it; or it is a symlink to nowhere, which is not followed to make what it names.
        next = UniqueFd(tryOpen(walked, O_PATH | O_DIRECTORY));
      }
    }
    if (next.get() < 0) throw failed("looking up its directory");
    at = std::move(next);
  }
  return at;
}

UniqueFd Root::reopen(int fd, int flags) const {
  UniqueFd again(openat(descriptors_.get(), std::to_string(fd).c_str(), flags | O_CLOEXEC));
  if (again.get() < 0) throw failed("opening it");
  return again;
}

void Root::hide(const std::string& path) {
  // Runtimes make what is missing of it, so that may not be made here.
  std::string there = withoutEndSlashes(path);
  std::string missing;
  UniqueFd fd(tryOpen(there, O_PATH));
  while (fd.get() < 0) {
    const size_t slash = there.rfind('/');
    if (slash == std::string::npos || there == "/") return;
    missing = there.substr(slash + 1);
    there = slash == 0 ? "/" : there.substr(0, slash);
    fd = UniqueFd(tryOpen(there, O_PATH));
  }
  const struct stat found = statOf(fd.get());
  hidden_.push_back({path, found.st_dev, found.st_ino, missing});
}

const Root::Hidden* Root::hiddenAt(const struct stat& entry) const {
  for (const Hidden& hidden : hidden_) {
    if (hidden.missing.empty() && hidden.device == entry.st_dev && hidden.inode == entry.st_ino) return &hidden;
  }
  return nullptr;
}

void Root::refuse(const Hidden& hidden) {
  throw Failure{EXDEV, "the container has a mount at " + hidden.path + ", which cannot be seen from here"};
}

void Root::refuseHiddenName(int directory, const std::string& name) const {
  if (hidden_.empty()) return;
  const struct stat above = statOf(directory);
  for (const Hidden& hidden : hidden_) {
    if (hidden.missing == name && hidden.device == above.st_dev && hidden.inode == above.st_ino) refuse(hidden);
  }
}

void Root::refuseHidden(int directory, const struct stat* entry) const {
  if (hidden_.empty()) return;
  if (entry != nullptr && hiddenAt(*entry) != nullptr) refuse(*hiddenAt(*entry));
  const struct stat top = statOf(root_.get());
  UniqueFd at(openat(directory, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (;;) {
    if (at.get() < 0) throw failed("looking for what is above it");
    const struct stat here = statOf(at.get());
    if (const Hidden* hidden = hiddenAt(here)) refuse(*hidden);
    if (here.st_dev == top.st_dev && here.st_ino == top.st_ino) return;
    UniqueFd above(openat(at.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    const struct stat higher = above.get() < 0 ? here : statOf(above.get());
    // The host's root: this directory was moved out of ours meanwhile.
    if (higher.st_dev == here.st_dev && higher.st_ino == here.st_ino) throw Failure{ESTALE, "looking for what is above it"};
    at = std::move(above);
  }
}

bool Root::isMount(int parent, const std::string& name) const {
  if (!isOwn_) {
    open_how how{};
    how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_NO_XDEV;
    const UniqueFd fd(static_cast<int>(syscall(SYS_openat2, parent, name.c_str(), &how, sizeof how)));
    return fd.get() < 0 && errno == EXDEV;
  }
  struct stat above {};
  struct stat below {};
  return fstat(parent, &above) == 0 && fstatat(parent, name.c_str(), &below, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISDIR(below.st_mode) && above.st_dev != below.st_dev;
}

struct stat statOf(int fd) {
  struct stat found {};
  if (fstat(fd, &found) != 0) throw failed("reading its attributes");
  return found;
}

}  // namespace skim::files
