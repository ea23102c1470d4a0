// The bytes of a span while they are decompressed and handed on.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace skim {

// Memory of one span, and of the window before it where there is one. Of what is let go of, a few are kept for the spans that come next: memory of that size goes back to the
// kernel else, and bringing it in again, page by page, costs a tenth of what inflating a span does. So it holds whatever it held before.
class SpanBytes {
 public:
  SpanBytes() = default;
  SpanBytes(size_t length, size_t windowLength);
  SpanBytes(SpanBytes&& other) noexcept;
  SpanBytes& operator=(SpanBytes&& other) noexcept;
  ~SpanBytes();

  explicit operator bool() const { return memory_ != nullptr; }
  std::span<uint8_t> bytes() const { return {memory_.get() + windowLength_, length_}; }
  // With the window in front.
  std::span<uint8_t> room() const { return {memory_.get(), windowLength_ + length_}; }
  // For who frees it, with delete[].
  std::unique_ptr<uint8_t[]> release() { return std::move(memory_); }

 private:
  std::unique_ptr<uint8_t[]> memory_;
  size_t capacity_ = 0;
  size_t windowLength_ = 0;
  size_t length_ = 0;
};

}  // namespace skim
