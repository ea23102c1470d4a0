// The spans of a layer while it is scanned.
//
// One span is open at any time. It grows by `append` and is closed by a cut, which opens the next one at the same place of the output.
// The record of a span is complete when it is closed, but for its window: which bytes of it are needed is known when 32 KiB
// have come out behind the checkpoint, and with spans shorter than that several windows are pending at once. They get complete
// in the order of their spans, so the stored windows are in that order too. Digests and stored windows are made on the side thread,
// in the order in which they are asked for, and put into the records at the end.

#include "gzip/span-ledger.h"

namespace skim {
namespace {

// Deflating a window takes as long as hashing some hundred KiB.
constexpr size_t deflateWorkBytes = 256u << 10;

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
    closed_.push_back(open_);
    side_.run(0, [this] { digests_.push_back(openHash_.finish()); });
  } else if (!pending_.empty() && pending_.back().span == closed_.size()) {
    pending_.pop_back();
  } else {
    // Its window may be complete already: it ended with its member. The next span that is opened gets its number, and must not get its window.
    side_.run(0, [this, span = closed_.size()] {
      if (storedWindows_.empty() || storedWindows_.back().span != span) return;
      windows_.resize(storedWindows_.back().offset);
      storedWindows_.pop_back();
    });
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
    const size_t span = pending_.front().span;
    // A task can be copied, a unique pointer cannot.
    std::shared_ptr<const WindowProbe> probe = std::move(pending_.front().probe);
    pending_.pop_front();
    side_.run(deflateWorkBytes, [this, span, probe = std::move(probe)] {
      const std::vector<uint8_t> window = probe->sparseWindow();
      const std::vector<uint8_t> stored = deflateWindow(window);
      storedWindows_.push_back({.span = span,
                                .offset = windows_.size(),
                                .stored = static_cast<uint32_t>(stored.size()),
                                .length = static_cast<uint32_t>(window.size())});
      windows_.insert(windows_.end(), stored.begin(), stored.end());
    });
  }
}

void SpanLedger::finish(uint64_t compressedEnd) {
  closeOpen(compressedEnd);
  endMember();
}

std::vector<uint8_t> SpanLedger::encodeRecords() const {
  std::vector<SpanRecord> records = closed_;
  for (size_t i = 0; i < records.size(); i++) records[i].sha256 = digests_[i];
  for (const StoredWindow& window : storedWindows_) {
    SpanRecord& record = records[window.span];
    record.windowOffset = window.stored == 0 ? 0 : window.offset;
    record.windowStored = window.stored;
    record.windowLength = window.length;
  }
  std::vector<uint8_t> bytes(records.size() * spanRecordBytes);
  for (size_t i = 0; i < records.size(); i++)
    encodeSpanRecord(records[i], std::span<uint8_t, spanRecordBytes>(bytes.data() + i * spanRecordBytes, spanRecordBytes));
  return bytes;
}

}  // namespace skim
