#include "fuse/read-plan.h"

#include <algorithm>
#include <cstring>

namespace skim::fuse {

bool planRead(const ImageTree& tree, const InodeRecord& file, uint64_t offset, uint8_t* into, uint32_t length,
              std::vector<ReadSlice>& slices) {
  slices.clear();
  const uint64_t end = offset + length;
  const auto first = tree.firstExtentBehind(file, offset);
  if (!first) return false;
  uint64_t at = offset;
  for (uint32_t position = *first; at < end; position++) {
    uint64_t dataStart = end;
    std::optional<ExtentRecord> extent;
    if (position < file.count) {
      extent = tree.extent(file, position);
      if (!extent) return false;
      dataStart = std::clamp(extent->fileOffset, at, end);
    }
    std::memset(into + (at - offset), 0, dataStart - at);
    at = dataStart;
    if (!extent) break;
    const auto layer = tree.layer(extent->layer);
    if (!layer) return false;
    const uint64_t dataEnd = std::min(extent->fileOffset + extent->length, end);
    while (at < dataEnd) {
      const uint64_t layerOffset = extent->layerOffset + (at - extent->fileOffset);
      const auto span = tree.spanAt(*layer, layerOffset);
      if (!span) return false;
      const auto place = *tree.span(*span);
      const auto spanOffset = static_cast<uint32_t>(layerOffset - place.uncompressedOffset);
      const auto taken = static_cast<uint32_t>(std::min<uint64_t>(place.uncompressedLength - spanOffset, dataEnd - at));
      slices.push_back({extent->layer, *span, *span - layer->spanFirst, spanOffset, static_cast<uint32_t>(at - offset), taken});
      at += taken;
    }
  }
  return true;
}

}  // namespace skim::fuse
