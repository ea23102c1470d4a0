// Which spans have the bytes of a read.

#pragma once

#include <vector>

#include "fuse/image-tree.h"

namespace skim::fuse {

// Bytes that one span contributes to a read.
struct ReadSlice {
  uint32_t layer;       // position of the layer in the archive
  uint32_t span;        // index of the span in the archive
  uint32_t localSpan;   // the same, counted within the layer
  uint32_t spanOffset;  // where in the span the bytes start
  uint32_t into;        // where in the read they go
  uint32_t length;
  bool unreadable = false;  // said to be verified in the cache file, but could not be read from it
};

// Cuts a read of `length` bytes from `offset` on (both within the file) into slices, in the order of the file; what lies in a hole is set to zero in
// `into` at once. False where the records are damaged.
bool planRead(const ImageTree& tree, const InodeRecord& file, uint64_t offset, uint8_t* into, uint32_t length,
              std::vector<ReadSlice>& slices);

}  // namespace skim::fuse
