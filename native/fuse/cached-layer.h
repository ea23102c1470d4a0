// One layer in the disk cache, as the engine's threads read it: the open files, and which spans of them have been verified.
//
// The verified bytes are one memory for C++ and JavaScript: whoever has compared a span with its digest (or written it) sets its byte, and
// from then on every thread reads the span straight from the file. They belong to the files that were open at the time: files
// that were found deleted or damaged are replaced together with their bytes, never under them. The descriptors are our own copies, so that
// JavaScript may close its own while a read is under way.
//
// Which spans are in the file at all is read from the presence map with pread(2), one byte, once a span: mapping it would save
// nothing and would kill the process where somebody truncates it.
//
// Threads note which spans they read, for the eviction by use; JavaScript takes the notes away about once a minute. Nothing is ever punched out of the files
// that an object of this class has open: it holds the lock on the map's open file description until it is destroyed (src/cache/layer-eviction.ts).

#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "unique-fd.h"

namespace skim {

class CachedLayer {
 public:
  enum class Check { verified, absent, damaged };

  // `spanRecords` as in the archive (80 bytes each). Copies both descriptors. Throws systemError, or misuse for no whole records.
  CachedLayer(int dataFd, int mapFd, std::span<const uint8_t> spanRecords);

  uint32_t spanCount() const { return static_cast<uint32_t>(spans_.size()); }

  // True from the moment on that the bytes of the span are known to be right. Spans count from 0 within the layer.
  bool isVerified(uint32_t span) const { return verified_[span].load(std::memory_order_acquire) == 1; }

  // Notes that the span was read. Written once between two looks of JavaScript, so that threads do not fight for the cache line.
  void noteUse(uint32_t span) {
    if (used_[span].load(std::memory_order_relaxed) == 0) used_[span].store(1, std::memory_order_relaxed);
  }

  // Fills `into` with `length` bytes of the layer from `offset` on; false where the file does not have them (any more).
  bool read(uint64_t offset, uint8_t* into, size_t length) const;

  // True where the map says that the span is in the file.
  bool isPresent(uint32_t span) const;

  // Reads a whole span that is present and compares it with its digest; marks it verified. `bytes` holds the span afterwards if it is. Where another thread
  // is at that span, it is waited for and not done twice.
  Check verify(uint32_t span, std::vector<uint8_t>& bytes);

  // Verifies a span before it is read. Does nothing for one that is verified, absent, or another thread's at the moment. `bytes` is for its use.
  void verifyAhead(uint32_t span, std::vector<uint8_t>& bytes);

  // Writes a span whose digest has been checked, and says in the map that it is there; it counts as verified then. False where the disk does not take it.
  bool store(uint32_t span, std::span<const uint8_t> bytes);

  uint32_t spanBytes(uint32_t span) const { return spans_[span].length; }
  uint64_t spanOffset(uint32_t span) const { return spans_[span].offset; }
  int dataFd() const { return data_.get(); }

  // One byte a span: 1 verified. For JavaScript, with an owner that keeps it.
  std::shared_ptr<std::atomic<uint8_t>[]> verifiedBytes() const { return verified_; }
  // One byte a span: 1 read since JavaScript has set it to 0.
  std::shared_ptr<std::atomic<uint8_t>[]> usedBytes() const { return used_; }

 private:
  Check readAndCompare(uint32_t span, std::vector<uint8_t>& bytes);

  struct Span {
    uint64_t offset;
    uint32_t length;
    std::array<uint8_t, 32> sha256;
  };

  UniqueFd data_;
  UniqueFd map_;
  std::vector<Span> spans_;
  std::shared_ptr<std::atomic<uint8_t>[]> verified_;
  std::shared_ptr<std::atomic<uint8_t>[]> used_;
  // 1 while a thread verifies the span.
  std::unique_ptr<std::atomic<uint8_t>[]> checking_;
};

}  // namespace skim
