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

// Of one that is open for reading.
Directory streamOf(UniqueFd fd) {
  Directory stream(fdopendir(fd.get()), closedir);
  if (!stream) throw failed("reading the directory");
  // Closed with the stream.
  static_cast<void>(fd.release());
  return stream;
}

Directory openStream(const Root& root, int fd) { return streamOf(root.reopen(fd, O_RDONLY | O_DIRECTORY)); }

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

// PATH_MAX, without its NUL. A tree can be deeper; nobody could name what is there.
constexpr size_t pathBytesMax = 4095;

class TreeSender {
 public:
  TreeSender(const Root& root, Limits left) : root_(root), left_(left) {}

  // Sends what is open as O_PATH. Throws Failure where a limit is reached, or what was asked for itself cannot be read; what is wrong below is told there.
  void send(UniqueFd fd, const std::string& path, uint32_t depth) {
    const struct stat found = statOf(fd.get());
    count();
    sendEntry(fd.get(), found, path);
    if (S_ISREG(found.st_mode)) sendFile(fd.get(), depth == 0);
    if (S_ISDIR(found.st_mode)) sendChildren(std::move(fd), found, path, depth);
  }

 private:
  void count() {
    if (left_.entries-- == 0) throw Failure{EOVERFLOW, "more entries than are to be copied"};
  }

  void sendFile(int fd, bool isTop) {
    int number = 0;
    try {
      sendContent(fd);
    } catch (const Failure& failure) {
      if (isTop || failure.number == EOVERFLOW) throw;
      number = failure.number;
    }
    writeFrame('z', Payload().u32(static_cast<uint32_t>(number)).text());
  }

  void sendContent(int fd) {
    const UniqueFd file = root_.reopen(fd, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    std::string buffer(frameBytesMax, '\0');
    for (;;) {
      const ssize_t got = read(file.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) throw Stopped{};
      if (got < 0) throw failed("reading it");
      if (got == 0) return;
      if (static_cast<uint64_t>(got) > left_.bytes) throw Failure{EOVERFLOW, "more bytes than are to be copied"};
      left_.bytes -= static_cast<uint64_t>(got);
      writeFrame('d', std::string_view(buffer).substr(0, static_cast<size_t>(got)));
    }
  }

  void sendChildren(UniqueFd fd, const struct stat& found, const std::string& path, uint32_t depth) {
    if (isKernelView(fd.get()) || root_.isHidden(found)) return;
    if (depth >= left_.depth) throw Failure{EOVERFLOW, "directories deeper than are to be copied"};
    // One descriptor a level, since trees are deep.
    const Directory stream = openStream(root_, fd.get());
    fd.reset();
    while (const char* name = nextName(stream)) {
      const std::string childPath = path.empty() ? name : path + "/" + name;
      try {
        if (childPath.size() > pathBytesMax) throw Failure{ENAMETOOLONG, "its path is too long"};
        UniqueFd child(openat(dirfd(stream.get()), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
        // Removed meanwhile.
        if (child.get() < 0 && errno == ENOENT) continue;
        if (child.get() < 0) throw failed("looking at it");
        send(std::move(child), childPath, depth + 1);
      } catch (const Failure& failure) {
        if (failure.number == EOVERFLOW) throw;
        count();
        writeFrame('w', Payload().u32(static_cast<uint32_t>(failure.number)).bytes(childPath).rest(failure.what).text());
      }
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

constexpr uint64_t removedPerSign = 256;

void removeBelow(const Root& root, int parent, const std::string& name, uint32_t depth, uint64_t& removed) {
  if (depth > 4096) throw Failure{EOVERFLOW, "directories deeper than are removed"};
  if (root.isMount(parent, name)) throw Failure{EBUSY, "a mount, which is not emptied"};
  UniqueFd fd(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.get() < 0) throw failed("opening a directory to remove");
  const Directory stream = streamOf(std::move(fd));
  while (const char* child = nextName(stream)) {
    // Said now and then, so that a large tree does not look like one that hangs.
    if (++removed % removedPerSign == 0) writeFrame('p', {});
    if (unlinkat(dirfd(stream.get()), child, 0) == 0 || errno == ENOENT) continue;
    // EPERM is what POSIX says for a directory, EISDIR what Linux does.
    if (errno != EISDIR && errno != EPERM) throw failed("removing an entry of it");
    removeBelow(root, dirfd(stream.get()), child, depth + 1, removed);
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
    TreeSender(root, limits).send(openVisible(root, fields.rest(), follow), "", 0);
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
    if (S_ISDIR(there.st_mode) && isRecursive) {
      uint64_t removed = 0;
      return removeBelow(root, place.parent.get(), place.name, 0, removed);
    }
    const int flags = S_ISDIR(there.st_mode) ? AT_REMOVEDIR : 0;
    if (unlinkat(place.parent.get(), place.name.c_str(), flags) != 0) throw failed("removing it");
  });
}

}  // namespace skim::files
