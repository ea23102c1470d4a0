#include "gzip/spare-memory.h"

#include <mutex>
#include <vector>

namespace skim {
namespace {

struct Spare {
  std::unique_ptr<uint8_t[]> memory;
  size_t capacity;
};

// Enough for as many spans as are inflated at the same time, mostly, each with its compressed bytes; none that is much larger than spans are.
constexpr size_t sparesMax = 16;
constexpr size_t sparesBytesMax = 8u << 20;
constexpr size_t spareBytesMax = 2u << 20;

// One that is so much larger than what is asked for is left for others.
constexpr size_t fitFactor = 4;

// Never destroyed: pool threads may let go of memory while the process ends.
struct Spares {
  // Letting go of memory must not need any.
  Spares() { all.reserve(sparesMax + 1); }
  std::mutex mutex;
  std::vector<Spare> all;  // those that have lain longest first
  size_t bytes = 0;
};
Spares& spares() {
  static Spares* spares = new Spares;
  return *spares;
}

Spare take(size_t bytes) {
  {
    std::lock_guard lock(spares().mutex);
    auto& all = spares().all;
    auto best = all.end();
    for (auto spare = all.begin(); spare != all.end(); ++spare)
      if (spare->capacity >= bytes && spare->capacity / fitFactor <= bytes && (best == all.end() || spare->capacity < best->capacity)) best = spare;
    if (best != all.end()) {
      Spare spare = std::move(*best);
      all.erase(best);
      spares().bytes -= spare.capacity;
      return spare;
    }
  }
  return {std::make_unique_for_overwrite<uint8_t[]>(bytes), bytes};
}

void give(Spare spare) {
  if (!spare.memory || spare.capacity > spareBytesMax) return;
  std::lock_guard lock(spares().mutex);
  auto& all = spares().all;
  spares().bytes += spare.capacity;
  all.push_back(std::move(spare));
  while (spares().bytes > sparesBytesMax || all.size() > sparesMax) {
    spares().bytes -= all.front().capacity;
    all.erase(all.begin());
  }
}

}  // namespace

SpareMemory::SpareMemory(size_t bytes) {
  Spare spare = take(bytes);
  memory_ = std::move(spare.memory);
  capacity_ = spare.capacity;
}

SpareMemory::~SpareMemory() { give({std::move(memory_), capacity_}); }

}  // namespace skim
