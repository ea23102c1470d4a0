// Memory for spans and for what they are made of, used again and again.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace skim {

// At least as many bytes as it was asked for. What is let go of is kept for those that come next, up to some megabytes: memory of that size goes back to the kernel else, and bringing it
// in again, page by page, costs a tenth of what inflating a span does, and more in a virtual machine. So it holds whatever it held before. May be let go of in any thread.
class SpareMemory {
 public:
  SpareMemory() = default;
  // Throws bad_alloc.
  explicit SpareMemory(size_t bytes);
  SpareMemory(SpareMemory&& other) noexcept { *this = std::move(other); }
  SpareMemory& operator=(SpareMemory&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~SpareMemory();

  explicit operator bool() const { return memory_ != nullptr; }
  uint8_t* data() const { return memory_.get(); }

 private:
  std::unique_ptr<uint8_t[]> memory_;
  size_t capacity_ = 0;
};

}  // namespace skim
