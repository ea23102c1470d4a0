// Lookups in the sections of an archive: binary searches over records, nothing decoded beforehand and nothing kept.

#include "fuse/image-tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

namespace skim::fuse {
namespace {

constexpr size_t layerRecordBytes = 64;
constexpr size_t spanRecordBytes = 80;
constexpr size_t layerSpanFirstAt = 20;

// The record `index` of a section, where it is within. A copy: records need not be aligned.
template <typename Record>
std::optional<Record> recordAt(Bytes section, uint64_t index, size_t recordBytes = sizeof(Record), size_t at = 0) {
  if (index >= section.size() / recordBytes) return std::nullopt;
  Record record;
  std::memcpy(&record, section.data() + index * recordBytes + at, sizeof(record));
  return record;
}

}  // namespace

uint32_t ImageTree::layerCount() const { return static_cast<uint32_t>(sections_.layers.size() / layerRecordBytes); }
uint32_t ImageTree::spanCount() const { return static_cast<uint32_t>(sections_.spans.size() / spanRecordBytes); }

std::optional<InodeRecord> ImageTree::inode(uint64_t ino) const {
  if (ino == 0) return std::nullopt;
  return recordAt<InodeRecord>(sections_.inodes, ino - 1);
}

std::optional<uint32_t> ImageTree::lookup(const InodeRecord& directory, std::string_view name) const {
  uint64_t low = directory.first;
  uint64_t high = low + directory.count;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    const auto entry = recordAt<DirentRecord>(sections_.dirents, middle);
    if (!entry) return std::nullopt;
    const auto entryName = this->name(entry->nameOffset, entry->nameLength);
    if (!entryName) return std::nullopt;
    // compare() is memcmp and then the length: the order of the file.
    const int order = name.compare(*entryName);
    if (order == 0) return entry->inode;
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return 0;
}

std::optional<DirentRecord> ImageTree::dirent(const InodeRecord& directory, uint64_t position) const {
  if (position >= directory.count) return std::nullopt;
  return recordAt<DirentRecord>(sections_.dirents, directory.first + position);
}

std::optional<std::string_view> ImageTree::name(uint32_t offset, uint32_t length) const {
  const size_t available = sections_.names.size();
  if (offset > available || length > available - offset) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(sections_.names.data()) + offset, length);
}

std::optional<XattrRecord> ImageTree::xattr(const InodeRecord& inode, uint32_t position) const {
  if (position >= inode.xattrCount) return std::nullopt;
  return recordAt<XattrRecord>(sections_.xattrs, uint64_t{inode.xattrFirst} + position);
}

std::optional<Bytes> ImageTree::xattrValue(const XattrRecord& xattr) const {
  const size_t available = sections_.xattrValues.size();
  if (xattr.valueOffset > available || xattr.valueLength > available - xattr.valueOffset) return std::nullopt;
  return sections_.xattrValues.subspan(xattr.valueOffset, xattr.valueLength);
}

std::optional<uint32_t> ImageTree::firstExtentBehind(const InodeRecord& file, uint64_t offset) const {
  uint32_t low = 0;
  uint32_t high = file.count;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const auto record = extent(file, middle);
    if (!record) return std::nullopt;
    if (record->fileOffset + record->length <= offset)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

std::optional<ExtentRecord> ImageTree::extent(const InodeRecord& file, uint32_t position) const {
  if (position >= file.count) return std::nullopt;
  auto record = recordAt<ExtentRecord>(sections_.extents, uint64_t{file.first} + position);
  // Sums below must not wrap around.
  constexpr uint64_t limit = uint64_t{1} << 62;
  if (record && (record->fileOffset > limit || record->length > limit || record->layerOffset > limit)) return std::nullopt;
  return record;
}

std::optional<LayerSpans> ImageTree::layer(uint32_t position) const {
  const auto record = recordAt<LayerSpans>(sections_.layers, position, layerRecordBytes, layerSpanFirstAt);
  if (!record || uint64_t{record->spanFirst} + record->spanCount > spanCount()) return std::nullopt;
  return record;
}

std::optional<SpanPlace> ImageTree::span(uint32_t index) const {
  struct Packed {
    uint64_t offset;
    uint32_t length;
    uint32_t rest;
  };
  const auto record = recordAt<Packed>(sections_.spans, index, spanRecordBytes);
  if (!record) return std::nullopt;
  return SpanPlace{record->offset, record->length};
}

std::optional<uint32_t> ImageTree::spanAt(const LayerSpans& layer, uint64_t offset) const {
  // The last span that begins at or before the offset.
  uint32_t low = layer.spanFirst;
  uint32_t high = layer.spanFirst + layer.spanCount;
  while (low + 1 < high) {
    const uint32_t middle = low + (high - low) / 2;
    const auto place = span(middle);
    if (!place) return std::nullopt;
    if (place->uncompressedOffset <= offset)
      low = middle;
    else
      high = middle;
  }
  const auto found = span(low);
  if (layer.spanCount == 0 || !found || offset < found->uncompressedOffset ||
      offset - found->uncompressedOffset >= found->uncompressedLength)
    return std::nullopt;
  return low;
}

}  // namespace skim::fuse
