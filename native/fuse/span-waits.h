// Reads that wait for spans, and the spans they wait for.
//
// A read that needs bytes which are not verified in the cache is kept here with a reply of its own, and registered with every span it lacks. Each
// span is brought by one party at a time, whoever and how many wait for it: by a worker, which verifies what is on disk, or by
// JavaScript, which fetches it. When a span lands, its bytes are copied into the replies that want them, and the replies that lack nothing more are
// handed back to be sent. A read leaves early when its span fails, or when its reader is interrupted.
//
// Nothing of a failure is kept: the next read of the span starts anew.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fuse/event-queue.h"
#include "fuse/protocol.h"
#include "fuse/read-plan.h"

namespace skim::fuse {

struct PendingRead {
  fuse_in_header header;
  uint64_t offset;
  uint32_t length;
  // The reply: fuse_out_header, then `length` bytes.
  std::unique_ptr<uint8_t[]> reply;
  // What was missing when the read began to wait.
  std::vector<ReadSlice> slices;
  uint64_t startedNs;
  // Below the lock of SpanWaits.
  uint32_t lacking = 0;  // slices that have not landed
  bool left = false;     // answered or given up
  bool damaged = false;  // a span was shorter than its record says: there is nothing to answer with
};
using PendingReadPtr = std::shared_ptr<PendingRead>;

class SpanWaits {
 public:
  // `events` is told of spans that JavaScript must bring, and of those that nobody waits for any more.
  explicit SpanWaits(EventQueue& events) : events_(events) {}

  struct Entered {
    bool interrupted = false;
    // Spans that the caller must now bring.
    std::vector<ReadSlice> bring;
  };
  // Registers `read` with the spans of its slices. A read whose interruption came before it is not registered.
  Entered enter(const PendingReadPtr& read);

  // Says that JavaScript must bring a span, if anybody still waits for it.
  void want(uint32_t span);

  // A span is there: copies its bytes to who waits for it. Returns the reads that are complete (or `damaged`).
  std::vector<PendingReadPtr> land(uint32_t span, const uint8_t* bytes, size_t length);

  // A span could not be had: returns the reads that waited for it, which are to be failed.
  std::vector<PendingReadPtr> fail(uint32_t span);

  // The reader of `unique` has given up. Returns its read, or nothing where it does not wait: it has been answered, or is about to begin waiting, and
  // will find itself interrupted then.
  PendingReadPtr interrupt(uint64_t unique);

  // Waits until no read waits, or until then.
  void waitUntilNone(std::chrono::steady_clock::time_point until);

  // Gives everything up, and takes no more in.
  void close();

  struct WaitingSpan {
    uint32_t span;
    size_t readers;
  };
  struct State {
    std::vector<PendingReadPtr> reads;
    std::vector<WaitingSpan> spans;
  };
  State state();
  size_t readCount();

 private:
  void leave(const PendingReadPtr& read);

  // Interruptions that came before their read; a few milliseconds' worth is kept.
  static constexpr size_t earlyMax = 256;

  EventQueue& events_;
  std::mutex mutex_;
  std::condition_variable noneLeft_;
  std::unordered_map<uint32_t, std::vector<PendingReadPtr>> spans_;
  std::unordered_map<uint64_t, PendingReadPtr> reads_;
  std::deque<uint64_t> early_;
  bool closed_ = false;
};

}  // namespace skim::fuse
