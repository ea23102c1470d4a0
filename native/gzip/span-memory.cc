#include "gzip/span-memory.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace skim {
namespace {

struct Spare {
  std::unique_ptr<uint8_t[]> memory;
  size_t capacity;
};

// As many as are inflated at the same time, mostly; none that is much larger than spans are.
constexpr size_t sparesMax = 4;
constexpr size_t spareBytesMax = 2u << 20;

// Never destroyed: pool threads may let go of a span while the process ends.
struct Spares {
  Spares() { all.reserve(sparesMax + 1); }
  std::mutex mutex;
  std::vector<Spare> all;
};
Spares& spares() {
  static Spares* spares = new Spares;
  return *spares;
}

Spare take(size_t bytes) {
  {
    std::lock_guard lock(spares().mutex);
    auto& all = spares().all;
    const auto found = std::find_if(all.begin(), all.end(), [bytes](const Spare& spare) { return spare.capacity >= bytes; });
    if (found != all.end()) {
      Spare spare = std::move(*found);
      all.erase(found);
      return spare;
    }
  }
  return {std::make_unique_for_overwrite<uint8_t[]>(bytes), bytes};
}

void give(Spare spare) {
  if (!spare.memory || spare.capacity > spareBytesMax) return;
  std::lock_guard lock(spares().mutex);
  auto& all = spares().all;
  all.push_back(std::move(spare));
  // Small ones go: the last span of a layer is as long as it happens to be.
  if (all.size() > sparesMax)
    all.erase(std::min_element(all.begin(), all.end(), [](const Spare& a, const Spare& b) { return a.capacity < b.capacity; }));
}

}  // namespace

SpanBytes::SpanBytes(size_t length, size_t windowLength) : windowLength_(windowLength), length_(length) {
  Spare spare = take(windowLength + length);
  memory_ = std::move(spare.memory);
  capacity_ = spare.capacity;
}

SpanBytes::SpanBytes(SpanBytes&& other) noexcept { *this = std::move(other); }

SpanBytes& SpanBytes::operator=(SpanBytes&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(capacity_, other.capacity_);
  std::swap(windowLength_, other.windowLength_);
  std::swap(length_, other.length_);
  return *this;
}

SpanBytes::~SpanBytes() { give({std::move(memory_), capacity_}); }

}  // namespace skim
