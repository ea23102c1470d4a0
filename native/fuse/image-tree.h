// The tree of an archive in memory, as its sections are stored (FORMAT.md), read in place.
//
// The sections were read into memory and checked by src/archive before they come here. They are not the file mapped: a file that shrinks
// under a mapping kills the process that looks, one that changes under it makes what was checked untrue, and the memory is the
// same either way as soon as a tree has been walked. Nothing here relies on those checks for its own safety, though: every
// number that leads somewhere is compared with the length of the section before it is followed, and one that leads outside gives
// "damaged" (EIO for the reader), never a read beyond the end.

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace skim::fuse {

using Bytes = std::span<const uint8_t>;

// FORMAT.md, "inodes"; little endian, as are all machines that skim runs on.
struct InodeRecord {
  uint32_t mode, uid, gid, nlink;
  uint64_t size;
  int64_t mtimeSec;
  uint32_t mtimeNsec, deviceMajor, deviceMinor, parent;
  uint32_t first, count, xattrFirst, xattrCount;
};
static_assert(sizeof(InodeRecord) == 64);

// "dirents"
struct DirentRecord {
  uint32_t inode, nameOffset;
  uint16_t nameLength;
  uint8_t type, reserved;
};
static_assert(sizeof(DirentRecord) == 12);

// "extents"
struct ExtentRecord {
  uint64_t fileOffset, length, layerOffset;
  uint32_t layer, reserved;
};
static_assert(sizeof(ExtentRecord) == 32);

// "xattrs"
struct XattrRecord {
  uint32_t nameOffset;
  uint16_t nameLength, reserved;
  uint32_t valueOffset, valueLength;
};
static_assert(sizeof(XattrRecord) == 16);

// What a read needs of a layer and of a span.
struct LayerSpans {
  uint32_t spanFirst, spanCount;
};
struct SpanPlace {
  uint64_t uncompressedOffset;
  uint32_t uncompressedLength;
};

class ImageTree {
 public:
  struct Sections {
    Bytes inodes, dirents, names, extents, xattrs, xattrValues, layers, spans;
  };

  // `fileBytes` is the size of all files, for statfs. The memory must stay as it is for the life of the tree.
  ImageTree(const Sections& sections, uint64_t fileBytes) : sections_(sections), fileBytes_(fileBytes) {}

  uint32_t inodeCount() const { return static_cast<uint32_t>(sections_.inodes.size() / sizeof(InodeRecord)); }
  uint32_t layerCount() const;
  uint32_t spanCount() const;
  uint64_t fileBytes() const { return fileBytes_; }
  bool hasXattrs() const { return !sections_.xattrs.empty(); }

  // Empty for a number that is no inode of this tree.
  std::optional<InodeRecord> inode(uint64_t ino) const;

  // The inode number of `name` in a directory, 0 where there is none; empty where the records are damaged.
  std::optional<uint32_t> lookup(const InodeRecord& directory, std::string_view name) const;

  // The name at `position` (0 to directory.count - 1).
  std::optional<DirentRecord> dirent(const InodeRecord& directory, uint64_t position) const;

  // Bytes in names; empty optional where they are not within the section.
  std::optional<std::string_view> name(uint32_t offset, uint32_t length) const;

  // The xattr `position` of an inode (0 to xattrCount - 1), and its value.
  std::optional<XattrRecord> xattr(const InodeRecord& inode, uint32_t position) const;
  std::optional<Bytes> xattrValue(const XattrRecord& xattr) const;

  // Index (0 to file.count) of the first extent of a file that ends behind `offset`; empty where extents are damaged.
  std::optional<uint32_t> firstExtentBehind(const InodeRecord& file, uint64_t offset) const;
  std::optional<ExtentRecord> extent(const InodeRecord& file, uint32_t position) const;

  std::optional<LayerSpans> layer(uint32_t position) const;
  std::optional<SpanPlace> span(uint32_t index) const;
  // The span of a layer that holds the byte at `offset` of the layer.
  std::optional<uint32_t> spanAt(const LayerSpans& layer, uint64_t offset) const;

 private:
  Sections sections_;
  uint64_t fileBytes_;
};

}  // namespace skim::fuse
