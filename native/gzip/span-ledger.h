// The spans of a layer while it is scanned: where the open one began, what it hashes to, and the records of those closed.

#pragma once

#include <utility>
#include <vector>

#include "gzip/sha256.h"
#include "gzip/side-thread.h"
#include "gzip/span-record.h"
#include "gzip/window-store.h"

namespace skim {

class SpanLedger {
 public:
  // Opens the first span, at the start of the layer. Hashes and makes windows on `side`, which must be drained before the ledger goes.
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
  // `checkpointByte` is the last byte taken, `window` what came out before it.
  void cutAtBlock(uint64_t compressedEnd, uint64_t compressedStart, unsigned startBit, uint8_t checkpointByte,
                  std::vector<uint8_t> window);
  void cutAnywhere(uint64_t compressedEnd);

  // Tells the windows that are still being looked at which compressed bytes were taken, and that a member has ended. `compressed` must stay as it
  // is until `side` is drained.
  void follow(Bytes compressed);
  void endMember();

  // Ends the last span. Only the two calls below may follow, when `side` is drained.
  void finish(uint64_t compressedEnd);
  std::vector<uint8_t> encodeRecords() const;
  std::vector<uint8_t> takeWindows() { return windows_.takeWindows(); }

 private:
  void closeOpen(uint64_t compressedEnd);

  SideThread& side_;
  SpanRecord open_;
  std::vector<SpanRecord> closed_;

  // The side thread's until it is drained: they are complete in `encodeRecords`.
  Sha256 openHash_;
  std::vector<Sha256Digest> digests_;  // of closed_
  WindowStore windows_;
};

}  // namespace skim
