// The spans of a layer while it is scanned.
//
// One span is open at any time. It grows by `append` and is closed by a cut, which opens the next one at the same place of the output.
// The record of a span is complete when it is closed, but for its digest and its window: these are made on the side thread, in the order in which
// they are asked for, and put into the records at the end.

#include "gzip/span-ledger.h"

namespace skim {
namespace {

// Two inflate states for a window, and deflating it, take as long as hashing some hundred KiB.
constexpr size_t windowWorkBytes = 256u << 10;

}  // namespace

void SpanLedger::append(Bytes uncompressed) {
  side_.update(openHash_, uncompressed);
  open_.uncompressedLength += static_cast<uint32_t>(uncompressed.size());
}

void SpanLedger::cutAtMember(uint64_t compressedEnd, uint64_t compressedStart) {
  closeOpen(compressedEnd);
  open_.restart = Restart::member;
  open_.compressedStart = compressedStart;
}

void SpanLedger::cutAtBlock(uint64_t compressedEnd, uint64_t compressedStart, unsigned startBit, uint8_t checkpointByte,
                            std::vector<uint8_t> window) {
  closeOpen(compressedEnd);
  open_.restart = Restart::block;
  open_.compressedStart = compressedStart;
  open_.startBit = static_cast<uint8_t>(startBit);
  side_.run(windowWorkBytes, [this, span = closed_.size(), window = std::move(window), startBit, checkpointByte] {
    windows_.open(span, window, startBit, checkpointByte);
  });
}

void SpanLedger::cutAnywhere(uint64_t compressedEnd) {
  const uint64_t restartStart = open_.compressedStart;
  closeOpen(compressedEnd);
  open_.restart = Restart::none;
  open_.compressedStart = restartStart;
}

void SpanLedger::closeOpen(uint64_t compressedEnd) {
  const uint64_t offset = uncompressedBytes();
  if (open_.uncompressedLength > 0) {
    open_.compressedEnd = compressedEnd;
    closed_.push_back(open_);
    side_.run(0, [this] { digests_.push_back(openHash_.finish()); });
  } else {
    side_.run(0, [this, span = closed_.size()] { windows_.drop(span); });
  }
  open_ = SpanRecord{};
  open_.uncompressedOffset = offset;
}

void SpanLedger::follow(Bytes compressed) {
  side_.run(compressed.size(), [this, compressed] { windows_.follow(compressed); });
}

void SpanLedger::endMember() {
  side_.run(0, [this] { windows_.endMember(); });
}

void SpanLedger::finish(uint64_t compressedEnd) {
  closeOpen(compressedEnd);
  endMember();
}

std::vector<uint8_t> SpanLedger::encodeRecords() const {
  std::vector<SpanRecord> records = closed_;
  for (size_t i = 0; i < records.size(); i++) records[i].sha256 = digests_[i];
  windows_.describeIn(records);
  std::vector<uint8_t> bytes(records.size() * spanRecordBytes);
  for (size_t i = 0; i < records.size(); i++)
    encodeSpanRecord(records[i], std::span<uint8_t, spanRecordBytes>(bytes.data() + i * spanRecordBytes, spanRecordBytes));
  return bytes;
}

}  // namespace skim
