// The windows of a layer's checkpoints, from the checkpoint until they are stored.

#pragma once

#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "gzip/checkpoint-window.h"
#include "gzip/span-record.h"

namespace skim {

// Spans are named by their numbers. With spans shorter than a window several are looked at at once; they get complete in the order of their spans, so the stored
// windows are in that order too.
class WindowStore {
 public:
  // A checkpoint before `span`, which is behind those of all calls before.
  void open(size_t span, Bytes window, unsigned startBit, uint8_t checkpointByte);

  // The checkpoint before `span`, if there is one, is none: nothing has come out behind it.
  void drop(size_t span);

  // Tells the windows that are being looked at which compressed bytes were taken, and that a member has ended.
  void follow(Bytes compressed);
  void endMember();

  // At the end: what records say of their windows, and the windows.
  void describeIn(std::span<SpanRecord> records) const;
  std::vector<uint8_t> takeWindows() { return std::move(windows_); }

 private:
  // Its first 32 KiB have not come out yet.
  struct Pending {
    size_t span;
    std::unique_ptr<WindowProbe> probe;
  };

  struct Stored {
    size_t span;
    size_t offset;
    uint32_t stored;
    uint32_t length;
  };

  void storeComplete();

  std::deque<Pending> pending_;
  std::vector<Stored> stored_;
  std::vector<uint8_t> windows_;
};

}  // namespace skim
