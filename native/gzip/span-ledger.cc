// The spans of a layer while it is scanned.
//
// One span is open at any time. It grows by `append` and is closed by a cut, which opens the next one at the same place of the output.
// The record of a span is complete when it is closed, but for its window: which bytes of it are needed is known when 32 KiB
// have come out behind the checkpoint, and with spans shorter than that several windows are pending at once. They get complete
// in the order of their spans, so the stored windows are in that order too.

#include "gzip/span-ledger.h"

namespace skim {

void SpanLedger::append(Bytes uncompressed) {
  openHash_.update(uncompressed);
  open_.uncompressedLength += static_cast<uint32_t>(uncompressed.size());
}

void SpanLedger::cutAtMember(uint64_t compressedEnd, uint64_t compressedStart) {
  closeOpen(compressedEnd);
  open_.restart = Restart::member;
  open_.compressedStart = compressedStart;
}

void SpanLedger::cutAtBlock(uint64_t compressedEnd, uint64_t compressedStart, unsigned startBit,
                            std::unique_ptr<WindowProbe> probe) {
  closeOpen(compressedEnd);
  open_.restart = Restart::block;
  open_.compressedStart = compressedStart;
  open_.startBit = static_cast<uint8_t>(startBit);
  pending_.push_back({closed_.size(), std::move(probe)});
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
    open_.sha256 = openHash_.finish();
    closed_.push_back(open_);
  } else if (!pending_.empty() && pending_.back().span == closed_.size()) {
    pending_.pop_back();
  }
  open_ = SpanRecord{};
  open_.uncompressedOffset = offset;
}

void SpanLedger::follow(Bytes compressed) {
  for (PendingWindow& window : pending_) window.probe->follow(compressed);
  storeWindows();
}

void SpanLedger::endMember() {
  for (PendingWindow& window : pending_) window.probe->end();
  storeWindows();
}

void SpanLedger::storeWindows() {
  while (!pending_.empty() && pending_.front().probe->complete()) {
    const size_t number = pending_.front().span;
    SpanRecord& record = number == closed_.size() ? open_ : closed_[number];
    const std::vector<uint8_t> window = pending_.front().probe->sparseWindow();
    const std::vector<uint8_t> stored = deflateWindow(window);
    record.windowOffset = stored.empty() ? 0 : windows_.size();
    record.windowStored = static_cast<uint32_t>(stored.size());
    record.windowLength = static_cast<uint32_t>(window.size());
    windows_.insert(windows_.end(), stored.begin(), stored.end());
    pending_.pop_front();
  }
}

void SpanLedger::finish(uint64_t compressedEnd) {
  closeOpen(compressedEnd);
  endMember();
}

std::vector<uint8_t> SpanLedger::encodeRecords() const {
  std::vector<uint8_t> bytes(closed_.size() * spanRecordBytes);
  for (size_t i = 0; i < closed_.size(); i++)
    encodeSpanRecord(closed_[i], std::span<uint8_t, spanRecordBytes>(bytes.data() + i * spanRecordBytes, spanRecordBytes));
  return bytes;
}

}  // namespace skim
