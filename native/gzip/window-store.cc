// The windows of a layer's checkpoints, from the checkpoint until they are stored. How one is reduced is in checkpoint-window.cc.

#include "gzip/window-store.h"

namespace skim {

void WindowStore::open(size_t span, Bytes window, unsigned startBit, uint8_t checkpointByte) {
  pending_.push_back({span, std::make_unique<WindowProbe>(window, startBit, checkpointByte)});
}

void WindowStore::drop(size_t span) {
  if (!pending_.empty() && pending_.back().span == span) return pending_.pop_back();
  // It may be complete already: it ended with its member. The next span that is opened gets its number, and must not get its window.
  if (stored_.empty() || stored_.back().span != span) return;
  windows_.resize(stored_.back().offset);
  stored_.pop_back();
}

void WindowStore::follow(Bytes compressed) {
  for (Pending& window : pending_) window.probe->follow(compressed);
  storeComplete();
}

void WindowStore::endMember() {
  for (Pending& window : pending_) window.probe->end();
  storeComplete();
}

void WindowStore::storeComplete() {
  while (!pending_.empty() && pending_.front().probe->complete()) {
    const std::vector<uint8_t> window = pending_.front().probe->sparseWindow();
    const std::vector<uint8_t> stored = deflateWindow(window);
    stored_.push_back({.span = pending_.front().span,
                       .offset = windows_.size(),
                       .stored = static_cast<uint32_t>(stored.size()),
                       .length = static_cast<uint32_t>(window.size())});
    windows_.insert(windows_.end(), stored.begin(), stored.end());
    pending_.pop_front();
  }
}

void WindowStore::describeIn(std::span<SpanRecord> records) const {
  for (const Stored& window : stored_) {
    SpanRecord& record = records[window.span];
    record.windowOffset = window.stored == 0 ? 0 : window.offset;
    record.windowStored = window.stored;
    record.windowLength = window.length;
  }
}

}  // namespace skim
