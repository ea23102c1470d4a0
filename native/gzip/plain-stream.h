// A layer that is not compressed: every byte is a restart point.

#pragma once

#include <algorithm>

#include "gzip/layer-stream.h"

namespace skim {

class PlainStream final : public LayerStream {
 public:
  Step step(Bytes input, std::span<uint8_t> room) override {
    const size_t length = std::min(input.size(), room.size());
    std::copy_n(input.begin(), length, room.begin());
    return {.consumed = length, .produced = length};
  }

  bool atEnd() const override { return true; }
  std::optional<uint64_t> outstandingBytes() const override { return 0; }
};

}  // namespace skim
