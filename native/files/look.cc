#include "files/look.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <memory>

#include "files/failure.h"
#include "files/frames.h"
#include "files/result.h"

namespace skim::files {

namespace {

struct Limits {
  uint64_t entries;
  uint64_t bytes;
  uint32_t depth;
};

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

Directory openStream(const Root& root, int fd) {
  UniqueFd again = root.reopen(fd, O_RDONLY | O_DIRECTORY);
  Directory stream(fdopendir(again.get()), closedir);
  if (!stream) throw failed("reading the directory");
  // Closed with the stream.
  static_cast<void>(again.release());
  return stream;
}

// The next name but `.` and `..`, or null at the end.
const char* nextName(const Directory& stream) {
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(stream.get());
    if (entry == nullptr && errno != 0) throw failed("reading the directory");
    if (entry == nullptr) return nullptr;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") return entry->d_name;
  }
}

char kindOf(mode_t mode) {
  if (S_ISREG(mode)) return 'f';
  if (S_ISDIR(mode)) return 'd';
  if (S_ISLNK(mode)) return 'l';
  return 'o';
}

std::string linkTarget(int fd) {
  char target[4096];
  const ssize_t size = readlinkat(fd, "", target, sizeof target);
  if (size < 0) throw failed("reading the symlink");
  return std::string(target, static_cast<size_t>(size));
}

void sendEntry(int fd, const struct stat& found, const std::string& path) {
  const char kind = kindOf(found.st_mode);
  const std::string target = kind == 'l' ? linkTarget(fd) : std::string();
  writeFrame('e', Payload()
                      .u8(static_cast<uint8_t>(kind))
                      .u32(found.st_mode & 07777)
                      .u32(found.st_uid)
                      .u32(found.st_gid)
                      .u64(kind == 'f' ? static_cast<uint64_t>(found.st_size) : 0)
                      .u64(static_cast<uint64_t>(found.st_mtim.tv_sec))
                      .u32(static_cast<uint32_t>(found.st_mtim.tv_nsec))
                      .bytes(path)
                      .rest(target)
                      .text());
}

// Views of the kernel: nothing in them is a file that could be copied.
bool isKernelView(int fd) {
  struct statfs filesystem {};
  if (fstatfs(fd, &filesystem) != 0) return false;
  switch (static_cast<unsigned long>(filesystem.f_type)) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case DEVPTS_SUPER_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
      return true;
    default:
      return false;
  }
}

class TreeSender {
 public:
  TreeSender(const Root& root, Limits left) : root_(root), left_(left) {}

  // Sends what is open as O_PATH. Throws Failure where a limit is reached, or `isTop` cannot be read; what is wrong with others is told of them.
  void send(int fd, const std::string& path, uint32_t depth, bool isTop) {
    const struct stat found = statOf(fd);
    if (left_.entries-- == 0) throw Failure{EOVERFLOW, "more entries than are to be copied"};
    sendEntry(fd, found, path);
    const char kind = kindOf(found.st_mode);
    if (kind != 'f' && kind != 'd') return;
    try {
      if (kind == 'f') {
        sendContent(fd);
      } else {
        sendChildren(fd, found, path, depth);
      }
    } catch (const Failure& failure) {
      if (isTop || failure.number == EOVERFLOW) throw;
      writeFrame('z', Payload().u32(static_cast<uint32_t>(failure.number)).text());
    }
  }

 private:
  void sendContent(int fd) {
    const UniqueFd file = root_.reopen(fd, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    std::string buffer(contentBytesMax, '\0');
    for (;;) {
      const ssize_t got = read(file.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) throw Stopped{};
      if (got < 0) throw failed("reading it");
      if (got == 0) break;
      if (static_cast<uint64_t>(got) > left_.bytes) throw Failure{EOVERFLOW, "more bytes than are to be copied"};
      left_.bytes -= static_cast<uint64_t>(got);
      writeFrame('d', std::string_view(buffer).substr(0, static_cast<size_t>(got)));
    }
    writeFrame('z', Payload().u32(0).text());
  }

  void sendChildren(int fd, const struct stat& found, const std::string& path, uint32_t depth) {
    if (isKernelView(fd) || root_.isHidden(found)) return;
    if (depth >= left_.depth) throw Failure{EOVERFLOW, "directories deeper than are to be copied"};
    const Directory stream = openStream(root_, fd);
    while (const char* name = nextName(stream)) {
      const UniqueFd child(openat(dirfd(stream.get()), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
      // Removed meanwhile.
      if (child.get() < 0 && errno == ENOENT) continue;
      if (child.get() < 0) throw failed("looking at an entry of it");
      send(child.get(), path.empty() ? name : path + "/" + name, depth + 1, false);
    }
  }

  const Root& root_;
  Limits left_;
};

// Opens what a request names, unless it cannot be seen from here.
UniqueFd openVisible(const Root& root, const std::string& path, bool follow) {
  UniqueFd fd = root.open(path, follow);
  const struct stat found = statOf(fd.get());
  if (S_ISDIR(found.st_mode)) {
    root.refuseHidden(fd.get(), &found);
  } else {
    const Place place = root.place(path, follow, nullptr);
    root.refuseHidden(place.parent.get(), &found);
  }
  return fd;
}

template <typename Work>
void answer(Work&& work) {
  Result result;
  try {
    work();
  } catch (const Failure& failure) {
    result = Result::of(failure);
  }
  result.send();
}

void removeBelow(const Root& root, int parent, const std::string& name, uint32_t depth) {
  if (depth > 4096) throw Failure{EOVERFLOW, "directories deeper than are removed"};
  if (root.isMount(parent, name)) throw Failure{EBUSY, "a mount, which is not emptied"};
  const UniqueFd fd(openat(parent, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.get() < 0) throw failed("opening a directory to remove");
  const Directory stream = openStream(root, fd.get());
  while (const char* child = nextName(stream)) {
    if (unlinkat(dirfd(stream.get()), child, 0) == 0 || errno == ENOENT) continue;
    // EPERM is what POSIX says for a directory, EISDIR what Linux does.
    if (errno != EISDIR && errno != EPERM) throw failed("removing an entry of it");
    removeBelow(root, dirfd(stream.get()), child, depth + 1);
  }
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) throw failed("removing a directory");
}

}  // namespace

void sendTree(const Root& root, const std::string& request) {
  answer([&] {
    Fields fields(request);
    const bool follow = fields.u8() != 0;
    Limits limits{};
    limits.entries = fields.u64();
    limits.bytes = fields.u64();
    limits.depth = fields.u32();
    const UniqueFd fd = openVisible(root, fields.rest(), follow);
    TreeSender(root, limits).send(fd.get(), "", 0, true);
  });
}

void sendList(const Root& root, const std::string& request) {
  answer([&] {
    Fields fields(request);
    uint64_t left = fields.u64();
    const UniqueFd fd = openVisible(root, fields.rest(), true);
    const Directory stream = openStream(root, fd.get());
    while (const char* name = nextName(stream)) {
      const UniqueFd child(openat(dirfd(stream.get()), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
      if (child.get() < 0 && errno == ENOENT) continue;
      if (child.get() < 0) throw failed("looking at an entry of it");
      if (left-- == 0) throw Failure{EOVERFLOW, "more entries than are to be listed"};
      sendEntry(child.get(), statOf(child.get()), name);
    }
  });
}

void sendStat(const Root& root, const std::string& request) {
  answer([&] {
    Fields fields(request);
    const bool follow = fields.u8() != 0;
    const UniqueFd fd = openVisible(root, fields.rest(), follow);
    sendEntry(fd.get(), statOf(fd.get()), "");
  });
}

void removeTree(const Root& root, const std::string& request) {
  answer([&] {
    Fields fields(request);
    const bool isRecursive = fields.u8() != 0;
    const Place place = root.place(fields.rest(), false, nullptr);
    struct stat there {};
    if (fstatat(place.parent.get(), place.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) throw failed("looking it up");
    root.refuseHidden(place.parent.get(), &there);
    if (S_ISDIR(there.st_mode) && isRecursive) return removeBelow(root, place.parent.get(), place.name, 0);
    const int flags = S_ISDIR(there.st_mode) ? AT_REMOVEDIR : 0;
    if (unlinkat(place.parent.get(), place.name.c_str(), flags) != 0) throw failed("removing it");
  });
}

}  // namespace skim::files
