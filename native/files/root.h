// The root that all paths are resolved in, and how.
//
// Resolution is the kernel's: openat2(2) with RESOLVE_IN_ROOT takes absolute symlinks and `..` from the root, RESOLVE_NO_MAGICLINKS refuses the links
// of /proc that lead anywhere. What is found is a descriptor, and everything goes on from it: a path is never resolved twice, so
// whatever a container changes meanwhile leads nowhere else. Inside gVisor, whose kernel has no openat2, the root is the process's own, and openat(2) can
// lead nowhere else either.

#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "unique-fd.h"

namespace skim::files {

struct Owner {
  uid_t uid;
  gid_t gid;
};

// A name in a directory: where something is, or is to be.
struct Place {
  UniqueFd parent;
  std::string name;
};

class Root {
 public:
  // The process's own root, in which it runs.
  static Root inside();
  // A directory that the caller has opened.
  static Root ofDescriptor(int fd);
  // Of the mount namespace of a process, which this one enters for good. `startTicks` is field 22 of /proc/PID/stat. Throws Failure (ESRCH) where that
  // process is not there any more.
  static Root ofProcess(pid_t pid, unsigned long long startTicks);

  // What is at `path`, as O_PATH. Without `follow` a symlink at its end is itself. Throws Failure.
  UniqueFd open(const std::string& path, bool follow) const;
  // Where `path` is: its directory and its last name. `follow`: where that is a symlink, where it leads. `makeFor`: directories that are missing are made
  // for this owner, mode 0755. Throws Failure; EISDIR for the root.
  Place place(std::string path, bool follow, const Owner* makeFor) const;
  // Opens again, for reading, what is open as O_PATH. Never a device or a FIFO: those are the caller's to refuse before.
  UniqueFd reopen(int fd, int flags) const;

  // Nothing at or below this path is what a process of the container sees there.
  void hide(const std::string& path);
  // Throws Failure (EXDEV) naming the hidden path that `directory`, or `entry` in it, lies at or below.
  void refuseHidden(int directory, const struct stat* entry) const;
  // The same of a name in a directory that nothing has yet.
  void refuseHiddenName(int directory, const std::string& name) const;
  bool isHidden(const struct stat& entry) const { return hiddenAt(entry) != nullptr; }
  // Something is mounted at this name. Inside gVisor: of a directory; for the files of one mount have several device numbers there.
  bool isMount(int parent, const std::string& name) const;

 private:
  struct Hidden {
    std::string path;
    dev_t device;
    ino_t inode;
    // Empty, or the first name below that inode that is missing on the way to the path.
    std::string missing;
  };

  Root(UniqueFd root, UniqueFd descriptors, bool isOwn, UniqueFd process = UniqueFd())
      : root_(std::move(root)), descriptors_(std::move(descriptors)), isOwn_(isOwn), process_(std::move(process)) {}
  int tryOpen(const std::string& path, int flags) const;
  UniqueFd openDirectory(const std::string& path, const Owner* makeFor) const;
  UniqueFd makeDirectories(const std::string& path, const Owner& owner) const;
  [[noreturn]] static void refuse(const Hidden& hidden);
  const Hidden* hiddenAt(const struct stat& entry) const;

  UniqueFd root_;
  // /proc/self/fd, opened before the namespace was changed.
  UniqueFd descriptors_;
  bool isOwn_;
  // The pinned one.
  UniqueFd process_;
  std::vector<Hidden> hidden_;
};

struct stat statOf(int fd);

}  // namespace skim::files
