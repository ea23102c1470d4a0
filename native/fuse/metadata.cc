#include "fuse/metadata.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

namespace skim::fuse {
namespace {

constexpr uint32_t blockBytes = 4096;
// The unit of st_blocks, whatever the block size of a filesystem is (stat(2)).
constexpr uint64_t statBlockBytes = 512;
constexpr size_t nameBytesMax = 255;

bool isDirectory(const InodeRecord& inode) { return S_ISDIR(inode.mode); }

// As the kernel packs a device number in 32 bits (include/linux/kdev_t.h, new_encode_dev).
uint32_t encodeDevice(uint32_t major, uint32_t minor) { return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12); }

fuse_attr attributes(uint32_t ino, const InodeRecord& inode) {
  fuse_attr attr{};
  attr.ino = ino;
  attr.size = inode.size;
  // Holes counted: a file must not look sparse to programs that then go looking for its holes.
  attr.blocks = inode.size / statBlockBytes + (inode.size % statBlockBytes != 0);
  // An image has one time only. Negative ones are what the kernel expects in these unsigned fields.
  attr.atime = attr.mtime = attr.ctime = static_cast<uint64_t>(inode.mtimeSec);
  attr.atimensec = attr.mtimensec = attr.ctimensec = inode.mtimeNsec;
  attr.mode = inode.mode;
  attr.nlink = inode.nlink;
  attr.uid = inode.uid;
  attr.gid = inode.gid;
  attr.rdev = encodeDevice(inode.deviceMajor, inode.deviceMinor);
  attr.blksize = blockBytes;
  return attr;
}

// The name at the start of `bytes`, up to its NUL; empty where there is none.
std::optional<std::string_view> nameIn(Bytes bytes) {
  const void* end = bytes.empty() ? nullptr : std::memchr(bytes.data(), 0, bytes.size());
  if (!end) return std::nullopt;
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  return std::string_view(text, static_cast<const char*>(end) - text);
}

// A reply whose size the kernel asked for with 0 is that size; else it must fit (getxattr(2)).
int sizedReply(uint32_t asked, size_t length, Output& output) {
  if (asked != 0) return asked < length ? ERANGE : 0;
  fuse_getxattr_out size{};
  size.size = static_cast<uint32_t>(length);
  return output.append(size) ? 0 : EIO;
}

}  // namespace

std::optional<fuse_entry_out> Metadata::entry(uint32_t ino) const {
  const auto inode = tree_.inode(ino);
  if (!inode) return std::nullopt;
  fuse_entry_out entry{};
  entry.nodeid = ino;
  entry.entry_valid = entry.attr_valid = validSeconds;
  entry.attr = attributes(ino, *inode);
  return entry;
}

int Metadata::lookup(uint64_t parent, Bytes body, Output& output) const {
  const auto directory = tree_.inode(parent);
  if (!directory) return ESTALE;
  const auto name = nameIn(body);
  if (!name || name->empty()) return EINVAL;
  if (name->size() > nameBytesMax) return ENAMETOOLONG;
  if (!isDirectory(*directory)) return ENOTDIR;
  const auto found = tree_.lookup(*directory, *name);
  if (!found) return EIO;
  if (*found == 0) {
    // Node 0 with a time: the kernel remembers that there is no such name.
    fuse_entry_out none{};
    none.entry_valid = validSeconds;
    return output.append(none) ? 0 : EIO;
  }
  const auto reply = entry(*found);
  return reply && output.append(*reply) ? 0 : EIO;
}

int Metadata::getattr(uint64_t ino, Output& output) const {
  const auto inode = tree_.inode(ino);
  if (!inode) return ESTALE;
  fuse_attr_out reply{};
  reply.attr_valid = validSeconds;
  reply.attr = attributes(static_cast<uint32_t>(ino), *inode);
  return output.append(reply) ? 0 : EIO;
}

int Metadata::readlink(uint64_t ino, Output& output) const {
  const auto inode = tree_.inode(ino);
  if (!inode) return ESTALE;
  if (!S_ISLNK(inode->mode)) return EINVAL;
  const auto target = tree_.name(inode->first, inode->count);
  return target && output.append(target->data(), target->size()) ? 0 : EIO;
}

// Offsets are positions: 1 behind ".", 2 behind "..", position + 3 behind a name. They never change, so any may be sought at any time.
int Metadata::readdir(uint64_t ino, Bytes body, Output& output, bool plus) const {
  fuse_read_in in;
  if (!take(body, in)) return EINVAL;
  const auto directory = tree_.inode(ino);
  if (!directory) return ESTALE;
  if (!isDirectory(*directory)) return ENOTDIR;
  const size_t room = std::min<size_t>(in.size, output.room());

  // False where the entry does not fit any more.
  const auto add = [&](uint64_t child, std::string_view name, uint32_t type, uint64_t next, const fuse_entry_out* attr) {
    const size_t prefix = plus ? sizeof(fuse_entry_out) : 0;
    const size_t length = FUSE_DIRENT_ALIGN(prefix + FUSE_NAME_OFFSET + name.size());
    if (output.length() + length > room) return false;
    uint8_t* at = output.extend(length);
    std::memset(at, 0, length);
    if (attr) std::memcpy(at, attr, sizeof(*attr));
    fuse_dirent dirent{};
    dirent.ino = child;
    dirent.off = next;
    dirent.namelen = static_cast<uint32_t>(name.size());
    dirent.type = type;
    std::memcpy(at + prefix, &dirent, FUSE_NAME_OFFSET);
    std::memcpy(at + prefix + FUSE_NAME_OFFSET, name.data(), name.size());
    return true;
  };
  constexpr uint32_t typeDirectory = 4;
  // Attributes of "." and ".." are not passed on: the kernel has them.
  if (in.offset < 1 && !add(ino, ".", typeDirectory, 1, nullptr)) return 0;
  if (in.offset < 2 && !add(directory->parent, "..", typeDirectory, 2, nullptr)) return 0;
  for (uint64_t position = in.offset < 2 ? 0 : in.offset - 2; position < directory->count; position++) {
    const auto dirent = tree_.dirent(*directory, position);
    const auto name = dirent ? tree_.name(dirent->nameOffset, dirent->nameLength) : std::nullopt;
    if (!name) return output.length() > 0 ? 0 : EIO;
    std::optional<fuse_entry_out> attr;
    if (plus) {
      attr = entry(dirent->inode);
      if (!attr) return output.length() > 0 ? 0 : EIO;
    }
    if (!add(dirent->inode, *name, dirent->type, position + 3, attr ? &*attr : nullptr)) break;
  }
  return 0;
}

// Never 0: with zeros `df` hides a filesystem, kubelet refuses its disk, and overlayfs, seeing a name length of 0, refuses every name.
int Metadata::statfs(Output& output) const {
  fuse_statfs_out reply{};
  reply.st.bsize = reply.st.frsize = blockBytes;
  reply.st.blocks = std::max<uint64_t>(1, tree_.fileBytes() / blockBytes + (tree_.fileBytes() % blockBytes != 0));
  reply.st.files = tree_.inodeCount();
  reply.st.namelen = nameBytesMax;
  return output.append(reply) ? 0 : EIO;
}

int Metadata::getxattr(uint64_t ino, Bytes body, Output& output) const {
  if (!tree_.hasXattrs()) return ENOSYS;
  fuse_getxattr_in in;
  if (!take(body, in)) return EINVAL;
  const auto name = nameIn(body.subspan(sizeof(in)));
  if (!name) return EINVAL;
  const auto inode = tree_.inode(ino);
  if (!inode) return ESTALE;
  for (uint32_t i = 0; i < inode->xattrCount; i++) {
    const auto xattr = tree_.xattr(*inode, i);
    const auto xattrName = xattr ? tree_.name(xattr->nameOffset, xattr->nameLength) : std::nullopt;
    if (!xattrName) return EIO;
    if (*xattrName != *name) continue;
    const auto value = tree_.xattrValue(*xattr);
    if (!value) return EIO;
    const int fault = sizedReply(in.size, value->size(), output);
    if (fault != 0 || in.size == 0) return fault;
    return output.append(value->data(), value->size()) ? 0 : EIO;
  }
  return ENODATA;
}

int Metadata::listxattr(uint64_t ino, Bytes body, Output& output) const {
  if (!tree_.hasXattrs()) return ENOSYS;
  fuse_getxattr_in in;
  if (!take(body, in)) return EINVAL;
  const auto inode = tree_.inode(ino);
  if (!inode) return ESTALE;
  // Twice: how long the list is must be known before any of it is sent.
  for (const bool counting : {true, false}) {
    size_t length = 0;
    for (uint32_t i = 0; i < inode->xattrCount; i++) {
      const auto xattr = tree_.xattr(*inode, i);
      const auto name = xattr ? tree_.name(xattr->nameOffset, xattr->nameLength) : std::nullopt;
      if (!name) return EIO;
      length += name->size() + 1;
      // XATTR_LIST_MAX: more is no archive's, and the sum stays small whatever a damaged record says.
      if (length > 65536) return EIO;
      if (!counting && !(output.append(name->data(), name->size()) && output.append("", 1))) return EIO;
    }
    if (!counting) continue;
    const int fault = sizedReply(in.size, length, output);
    if (fault != 0 || in.size == 0) return fault;
  }
  return 0;
}

}  // namespace skim::fuse
