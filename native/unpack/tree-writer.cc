// Makes files with what belongs to them, in the order that keeps it: bytes, owner, extended attributes, mode, times. chown takes away setuid bits and
// capabilities, chmod changes ACLs, and writing changes times. Directories are made 0700 and get their own mode when everything is
// in them, so that 0555 and 0000 are no obstacle; see src/unpack/tree-writing.ts for the order of runs.
//
// Bytes come from a source by the cheapest way that works: whole blocks are shared (FICLONERANGE) where both files are on one filesystem that
// can; else the kernel copies them (copy_file_range), or they are read and written. What is not covered by extents stays a hole.

#include "unpack/tree-writer.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

namespace skim {
namespace {

// Clones are of whole blocks; filesystems with larger ones refuse (EINVAL), and are copied to. The packed files of
// src/unpack/packed-layout.ts keep to it.
constexpr uint64_t cloneAlignment = 4096;
// Below this a call to read and one to write take less time than one to copy_file_range, which sets up a pipe.
constexpr uint64_t copyBytesMin = 256 << 10;
constexpr size_t bufferBytes = 256 << 10;
// A list of millions of skipped things would be of no use to anybody.
constexpr size_t skippedBytesMax = 1 << 20;

struct Xattr {
  std::string name;
  Bytes value;
};

struct Attributes {
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  timespec time;
  std::vector<Xattr> xattrs;
};

Attributes readAttributes(InstructionReader& reader) {
  Attributes attributes{.mode = reader.u32(), .uid = reader.u32(), .gid = reader.u32(), .time = {}, .xattrs = {}};
  attributes.time.tv_sec = reader.i64();
  attributes.time.tv_nsec = reader.u32();
  for (uint32_t left = reader.u32(); left > 0; left--) {
    std::string name = reader.text();
    attributes.xattrs.push_back({std::move(name), reader.bytes()});
  }
  return attributes;
}

// openat2 is missing: Linux before 5.6, or a filter of system calls that is older.
int walkBelow(int root, const std::string& path) {
  UniqueFd at(fcntl(root, F_DUPFD_CLOEXEC, 0));
  for (size_t start = 0; at.get() >= 0 && start < path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string part = path.substr(start, end - start);
    if (part == "..") {
      errno = EXDEV;
      return -1;
    }
    at = UniqueFd(openat(at.get(), part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    start = end + 1;
  }
  return at.get() < 0 ? -1 : fcntl(at.get(), F_DUPFD_CLOEXEC, 0);
}

}  // namespace

int openDirectoryBelow(int root, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  const long fd = syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof(how));
  return fd < 0 && errno == ENOSYS ? walkBelow(root, path) : static_cast<int>(fd);
}

class TreeWriterRun {
 public:
  TreeWriterRun(TreeWriter& writer, Bytes instructions) : writer_(writer), reader_(instructions) {}

  TreeWritten run() {
    while (!reader_.atEnd()) obey(reader_.instruction());
    return std::move(written_);
  }

 private:
  void obey(Instruction instruction) {
    if (instruction == Instruction::enter) return enter();
    if (directory_.get() < 0) throw misuse("no directory was entered");
    switch (instruction) {
      case Instruction::directory:
        name_ = reader_.name();
        return require(mkdirat(directory_.get(), name_.c_str(), 0700), "mkdir");
      case Instruction::file:
        return makeFile();
      case Instruction::staged:
        return placeStaged();
      case Instruction::symlink:
        return makeSymlink();
      case Instruction::special:
        return makeSpecial();
      case Instruction::link:
        return makeLink();
      case Instruction::finish:
        return finishDirectory();
      default:
        throw misuse("an unknown instruction");
    }
  }

  void enter() {
    directoryPath_ = reader_.text();
    name_.clear();
    directory_ = UniqueFd(openDirectoryBelow(writer_.root_.get(), directoryPath_));
    require(directory_.get(), "openat2");
  }

  void makeFile() {
    name_ = reader_.name();
    const Attributes attributes = readAttributes(reader_);
    const uint64_t size = reader_.u64();
    UniqueFd file(openat(directory_.get(), name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    require(file.get(), "open");
    uint64_t end = 0;
    for (uint32_t left = reader_.u32(); left > 0; left--) {
      const uint64_t fileOffset = reader_.u64();
      const uint32_t source = reader_.u32();
      const uint64_t sourceOffset = reader_.u64();
      const uint64_t length = reader_.u64();
      if ((source & stagedSource) != 0) {
        const UniqueFd staged = openStaged(source & ~stagedSource, O_RDONLY);
        bring(staged.get(), sourceOffset, file.get(), fileOffset, length);
      } else {
        if (source >= writer_.sources_.size()) throw misuse("a source that is none");
        bring(writer_.sources_[source].get(), sourceOffset, file.get(), fileOffset, length);
      }
      end = fileOffset + length;
    }
    if (end < size) require(ftruncate(file.get(), static_cast<off_t>(size)), "ftruncate");
    setAttributes(file.get(), attributes);
  }

  void placeStaged() {
    name_ = reader_.name();
    const Attributes attributes = readAttributes(reader_);
    const uint64_t size = reader_.u64();
    const uint32_t number = reader_.u32();
    const UniqueFd file = openStaged(number, O_WRONLY);
    struct stat found;
    require(fstat(file.get(), &found), "fstat");
    if (static_cast<uint64_t>(found.st_size) != size) require(ftruncate(file.get(), static_cast<off_t>(size)), "ftruncate");
    setAttributes(file.get(), attributes);
    require(syscall(SYS_renameat2, writer_.staging_.get(), std::to_string(number).c_str(), directory_.get(), name_.c_str(), RENAME_NOREPLACE),
            "renameat2");
  }

  UniqueFd openStaged(uint32_t number, int access) const {
    UniqueFd file(openat(writer_.staging_.get(), std::to_string(number).c_str(), access | O_NOFOLLOW | O_CLOEXEC));
    require(file.get(), "open");
    return file;
  }

  void makeSymlink() {
    name_ = reader_.name();
    const Attributes attributes = readAttributes(reader_);
    const std::string target = reader_.text();
    require(symlinkat(target.c_str(), directory_.get(), name_.c_str()), "symlink");
    setAttributesByName(attributes);
  }

  void makeSpecial() {
    name_ = reader_.name();
    const Attributes attributes = readAttributes(reader_);
    const mode_t type = reader_.u32();
    const unsigned major = reader_.u32();
    const unsigned minor = reader_.u32();
    if (mknodat(directory_.get(), name_.c_str(), type | 0600, makedev(major, minor)) != 0) {
      if (errno == EPERM && type != S_IFIFO) return skip('d');
      fail("mknod");
    }
    setAttributesByName(attributes);
    require(fchmodat(directory_.get(), name_.c_str(), attributes.mode, 0), "chmod");
    setTimeByName(attributes);
  }

  void makeLink() {
    name_ = reader_.name();
    const std::string target = reader_.text();
    const size_t slash = target.rfind('/');
    const std::string targetName = slash == std::string::npos ? target : target.substr(slash + 1);
    const UniqueFd parent(
        openDirectoryBelow(writer_.root_.get(), slash == std::string::npos ? std::string() : target.substr(0, slash)));
    require(parent.get(), "openat2");
    require(linkat(parent.get(), targetName.c_str(), directory_.get(), name_.c_str(), 0), "link");
  }

  void finishDirectory() {
    const Attributes attributes = readAttributes(reader_);
    UniqueFd directory(openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    require(directory.get(), "open");
    setAttributes(directory.get(), attributes);
  }

  void setAttributes(int fd, const Attributes& attributes) {
    if (writer_.keepOwners_) require(fchown(fd, attributes.uid, attributes.gid), "fchown");
    for (const auto& [name, value] : attributes.xattrs)
      if (fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0) xattrFailed("fsetxattr", name, value);
    require(fchmod(fd, attributes.mode), "fchmod");
    const timespec times[2] = {attributes.time, attributes.time};
    require(futimens(fd, times), "futimens");
  }

  // Of what has no descriptor to write with: symlinks, FIFOs, devices. Nobody else works in the tree, so the name is what was just made. A symlink's
  // mode is its own affair.
  void setAttributesByName(const Attributes& attributes) {
    if (writer_.keepOwners_)
      require(fchownat(directory_.get(), name_.c_str(), attributes.uid, attributes.gid, AT_SYMLINK_NOFOLLOW), "lchown");
    if (!attributes.xattrs.empty()) {
      const std::string path = "/proc/self/fd/" + std::to_string(directory_.get()) + "/" + name_;
      for (const auto& [name, value] : attributes.xattrs)
        if (lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) != 0) xattrFailed("lsetxattr", name, value);
    }
    setTimeByName(attributes);
  }

  void setTimeByName(const Attributes& attributes) {
    const timespec times[2] = {attributes.time, attributes.time};
    require(utimensat(directory_.get(), name_.c_str(), times, AT_SYMLINK_NOFOLLOW), "utimensat");
  }

  // Some filesystems have no attributes of a kind, or not as many bytes for them: ext4 says ENOSPC to more than a block.
  void xattrFailed(const char* syscall, const std::string& name, Bytes value) {
    const int number = errno;
    if (number != EOPNOTSUPP && number != E2BIG && number != ERANGE && !(number == ENOSPC && hasRoom(value.size())))
      throw systemError(number, syscall, path());
    skip('x', name);
  }

  bool hasRoom(uint64_t bytes) const {
    struct statvfs found;
    return fstatvfs(writer_.root_.get(), &found) == 0 && found.f_bavail * found.f_frsize > bytes + (1 << 20);
  }

  // -- bytes ----------------------------------------------------------------------------------------------------------

  void bring(int source, uint64_t sourceOffset, int file, uint64_t fileOffset, uint64_t length) {
    const uint64_t cloned = clone(source, sourceOffset, file, fileOffset, length);
    written_.clonedBytes += cloned;
    sourceOffset += cloned;
    fileOffset += cloned;
    length -= cloned;
    const uint64_t copied = length < copyBytesMin ? 0 : copy(source, sourceOffset, file, fileOffset, length);
    written_.copiedBytes += copied;
    readAndWrite(source, sourceOffset + copied, file, fileOffset + copied, length - copied);
    written_.writtenBytes += length - copied;
  }

  uint64_t clone(int source, uint64_t sourceOffset, int file, uint64_t fileOffset, uint64_t length) {
    const uint64_t blocks = length - length % cloneAlignment;
    if (blocks == 0 || sourceOffset % cloneAlignment != 0 || fileOffset % cloneAlignment != 0) return 0;
    if (!writer_.clones_.load(std::memory_order_relaxed)) return 0;
    file_clone_range range{};
    range.src_fd = source;
    range.src_offset = sourceOffset;
    range.src_length = blocks;
    range.dest_offset = fileOffset;
    if (ioctl(file, FICLONERANGE, &range) == 0) return blocks;
    if (errno == ENOSPC || errno == EDQUOT || errno == EIO) fail("ioctl");
    // EOPNOTSUPP, EXDEV, EINVAL, ENOTTY, EPERM: not between these filesystems.
    writer_.clones_.store(false, std::memory_order_relaxed);
    return 0;
  }

  // How many bytes were copied; the rest is for somebody else.
  uint64_t copy(int source, uint64_t sourceOffset, int file, uint64_t fileOffset, uint64_t length) {
    uint64_t done = 0;
    while (done < length && writer_.copies_.load(std::memory_order_relaxed)) {
      auto from = static_cast<off_t>(sourceOffset + done);
      auto to = static_cast<off_t>(fileOffset + done);
      const ssize_t got = copy_file_range(source, &from, file, &to, length - done, 0);
      if (got > 0) {
        done += static_cast<uint64_t>(got);
      } else if (got < 0 && errno == EINTR) {
        continue;
      } else if (got < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EFBIG)) {
        fail("copy_file_range");
      } else if (got < 0) {
        writer_.copies_.store(false, std::memory_order_relaxed);
      } else {
        break;
      }
    }
    return done;
  }

  void readAndWrite(int source, uint64_t sourceOffset, int file, uint64_t fileOffset, uint64_t length) {
    if (length > 0 && buffer_.empty()) buffer_.resize(bufferBytes);
    while (length > 0) {
      const ssize_t got = pread(source, buffer_.data(), std::min<uint64_t>(length, buffer_.size()), static_cast<off_t>(sourceOffset));
      if (got < 0 && errno == EINTR) continue;
      require(got, "read");
      // The layer's file was checked when it was opened: somebody has cut it since.
      if (got == 0) throw systemError(EIO, "read", path());
      for (ssize_t written = 0; written < got;) {
        const ssize_t step = pwrite(file, buffer_.data() + written, static_cast<size_t>(got - written), static_cast<off_t>(fileOffset) + written);
        if (step < 0 && errno == EINTR) continue;
        require(step, "write");
        written += step;
      }
      sourceOffset += static_cast<uint64_t>(got);
      fileOffset += static_cast<uint64_t>(got);
      length -= static_cast<uint64_t>(got);
    }
  }

  // -- failures -------------------------------------------------------------------------------------------------------

  std::string path() const {
    if (name_.empty() || directoryPath_.empty()) return name_.empty() ? directoryPath_ : name_;
    return directoryPath_ + "/" + name_;
  }

  void require(ssize_t result, const char* syscall) const {
    if (result < 0) fail(syscall);
  }

  [[noreturn]] void fail(const char* syscall) const { throw systemError(errno, syscall, path()); }

  void skip(char kind, const std::string& attribute = {}) {
    if (written_.skipped.size() > skippedBytesMax) return;
    std::string text = kind + path() + '\0';
    if (kind == 'x') text += attribute + '\0';
    written_.skipped.insert(written_.skipped.end(), text.begin(), text.end());
  }

  TreeWriter& writer_;
  InstructionReader reader_;
  TreeWritten written_;
  UniqueFd directory_;
  std::string directoryPath_;
  std::string name_;  // of what is being made; empty: the directory
  std::vector<char> buffer_;
};

TreeWritten TreeWriter::run(Bytes instructions) { return TreeWriterRun(*this, instructions).run(); }

}  // namespace skim
