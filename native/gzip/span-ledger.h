// The spans of a layer while it is scanned: where the open one began, what it hashes to, and the records of those closed.

#pragma once

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "gzip/checkpoint-window.h"
#include "gzip/sha256.h"
#include "gzip/side-thread.h"
#include "gzip/span-record.h"

namespace skim {

class SpanLedger {
 public:
  // Opens the first span, at the start of the layer. Hashes and deflates on `side`, which must be drained before the ledger goes.
  explicit SpanLedger(SideThread& side) : side_(side) { open_.restart = Restart::member; }

  // The open span so far.
  uint32_t openLength() const { return open_.uncompressedLength; }
  Restart openRestart() const { return open_.restart; }
  uint64_t uncompressedBytes() const { return open_.uncompressedOffset + open_.uncompressedLength; }

  // `uncompressed` must stay as it is until `side` is drained.
  void append(Bytes uncompressed);

  // Ends the open span, for which compressed bytes before `compressedEnd` are enough, and opens the next one. An open span of no
  // bytes is replaced instead: no span is ever empty.
  void cutAtMember(uint64_t compressedEnd, uint64_t compressedStart);
  void cutAtBlock(uint64_t compressedEnd, uint64_t compressedStart, unsigned startBit, std::unique_ptr<WindowProbe> probe);
  void cutAnywhere(uint64_t compressedEnd);

  // Tells the windows that are still being looked at which compressed bytes were taken, and that a member has ended.
  void follow(Bytes compressed);
  void endMember();

  // Ends the last span. Only the two calls below may follow, when `side` is drained.
  void finish(uint64_t compressedEnd);
  std::vector<uint8_t> encodeRecords() const;
  std::vector<uint8_t> takeWindows() { return std::move(windows_); }

 private:
  // The window of a span, open or closed, whose first 32 KiB have not come out yet.
  struct PendingWindow {
    size_t span;
    std::unique_ptr<WindowProbe> probe;
  };

  struct StoredWindow {
    size_t span;
    size_t offset;
    uint32_t stored;
    uint32_t length;
  };

  void closeOpen(uint64_t compressedEnd);
  void storeWindows();

  SideThread& side_;
  SpanRecord open_;
  std::vector<SpanRecord> closed_;
  std::deque<PendingWindow> pending_;  // in the order of spans, and so in the order in which they get complete

  // The side thread's until it is drained: they are complete in `encodeRecords`.
  Sha256 openHash_;
  std::vector<Sha256Digest> digests_;  // of closed_
  std::vector<StoredWindow> storedWindows_;
  std::vector<uint8_t> windows_;
};

}  // namespace skim
