// Deflate blocks inflated by libdeflate: twice as fast as zlib, but only where all of their bytes are there.

#pragma once

#include <libdeflate.h>

#include <memory>

#include "gzip/span-record.h"

namespace skim {

class WholeInflate {
 public:
  WholeInflate();

  // Inflates blocks that begin at bit `startBit` of `compressed`, pieces that are not empty, with `window` before them, to `room`, which has windowLength bytes for the window in front.
  // Nobody is told whether that came to the right bytes, or to how many: a digest says so. Never writes elsewhere, whatever `compressed` is.
  void inflate(Bytes window, unsigned startBit, std::span<const Bytes> compressed, std::span<uint8_t> room);

 private:
  struct Free {
    void operator()(libdeflate_decompressor* decompressor) const { libdeflate_free_decompressor(decompressor); }
  };
  std::unique_ptr<libdeflate_decompressor, Free> decompressor_;
};

}  // namespace skim
