// The bytes of a span while they are decompressed and handed on.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "gzip/spare-memory.h"

namespace skim {

// Memory of one span, and of the window before it where there is one.
class SpanBytes {
 public:
  SpanBytes() = default;
  SpanBytes(size_t length, size_t windowLength) : memory_(windowLength + length), windowLength_(windowLength), length_(length) {}

  explicit operator bool() const { return static_cast<bool>(memory_); }
  std::span<uint8_t> bytes() const { return {memory_.data() + windowLength_, length_}; }
  // With the window in front.
  std::span<uint8_t> room() const { return {memory_.data(), windowLength_ + length_}; }
  // For who keeps the bytes.
  SpareMemory release() { return std::move(memory_); }

 private:
  SpareMemory memory_;
  size_t windowLength_ = 0;
  size_t length_ = 0;
};

}  // namespace skim
