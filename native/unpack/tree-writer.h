// Writes a tree of files below a directory, from instructions (instructions.h).

#pragma once

#include <sys/stat.h>

#include <atomic>
#include <string>
#include <vector>

#include "unique-fd.h"
#include "unpack/instructions.h"

namespace skim {

// What one run has done.
struct TreeWritten {
  uint64_t clonedBytes = 0;   // FICLONERANGE: shared with their source
  uint64_t copiedBytes = 0;   // copy_file_range
  uint64_t writtenBytes = 0;  // read and write

  // What could not be made, each a kind, a path and, of an attribute, its name; each ended by NUL. 'd': a device, not allowed (EPERM).
  // 'x': an extended attribute that the filesystem cannot hold.
  std::vector<uint8_t> skipped;
};

// Nothing it is told leads out of its root: directories are entered from the root's descriptor without following any symlink, names are
// single parts of a path, and what is made must not be there yet. Any number of threads may run instructions at once; those that
// enter a directory must come after it was made.
class TreeWriter {
 public:
  // `sources` are the files that contents come from, `staging` the directory of staged files (none: -1). Without `keepOwners` all
  // belongs to the process that makes it.
  TreeWriter(UniqueFd root, std::vector<UniqueFd> sources, UniqueFd staging, bool keepOwners)
      : root_(std::move(root)), sources_(std::move(sources)), staging_(std::move(staging)), keepOwners_(keepOwners) {}

  // Stops at the first thing that cannot be made. Throws the errno with the call and the path from the root.
  TreeWritten run(Bytes instructions);

 private:
  friend class TreeWriterRun;

  const UniqueFd root_;
  const std::vector<UniqueFd> sources_;
  const UniqueFd staging_;
  const bool keepOwners_;
  // What the filesystems have turned out not to do.
  std::atomic<bool> clones_{true};
  std::atomic<bool> copies_{true};
};

// Opens the directory `path` below `root`, for use in *at calls only. No symlink is followed and no mount crossed. -1 and errno on failure.
int openDirectoryBelow(int root, const std::string& path);

}  // namespace skim
