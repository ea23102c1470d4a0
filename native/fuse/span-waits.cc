#include "fuse/span-waits.h"

#include <algorithm>
#include <cstring>

namespace skim::fuse {

SpanWaits::Entered SpanWaits::enter(const PendingReadPtr& read) {
  std::lock_guard lock(mutex_);
  Entered entered;
  const auto early = std::find(early_.begin(), early_.end(), read->header.unique);
  if (early != early_.end() || closed_) {
    if (early != early_.end()) early_.erase(early);
    entered.interrupted = true;
    return entered;
  }
  for (const ReadSlice& slice : read->slices) {
    auto& readers = spans_[slice.span];
    if (readers.empty()) entered.bring.push_back(slice);
    // Once, however many slices of the span it wants: nobody else comes in between.
    if (readers.empty() || readers.back() != read) readers.push_back(read);
  }
  read->lacking = static_cast<uint32_t>(read->slices.size());
  reads_.emplace(read->header.unique, read);
  return entered;
}

// Below the lock, like the opposite in leave(): what is said of one span comes in the order in which it was so.
void SpanWaits::want(uint32_t span) {
  std::lock_guard lock(mutex_);
  if (spans_.contains(span)) events_.push(EventKind::spanWanted, span);
}

std::vector<PendingReadPtr> SpanWaits::land(uint32_t span, const uint8_t* bytes, size_t length) {
  std::vector<PendingReadPtr> readers;
  {
    std::lock_guard lock(mutex_);
    const auto found = spans_.find(span);
    if (found == spans_.end()) return {};
    readers = std::move(found->second);
    spans_.erase(found);
  }
  std::vector<PendingReadPtr> complete;
  for (const auto& read : readers) {
    uint32_t landed = 0;
    bool isShort = false;
    for (const ReadSlice& slice : read->slices) {
      if (slice.span != span) continue;
      landed++;
      // The span has the length of its record, which the slice was cut by, unless JavaScript made a mistake.
      if (slice.spanOffset > length || slice.length > length - slice.spanOffset) {
        isShort = true;
        continue;
      }
      std::memcpy(read->reply.get() + sizeof(fuse_out_header) + slice.into, bytes + slice.spanOffset, slice.length);
    }
    std::lock_guard lock(mutex_);
    if (read->left) continue;
    read->damaged |= isShort;
    read->lacking -= landed;
    if (read->lacking > 0) continue;
    read->left = true;
    reads_.erase(read->header.unique);
    if (reads_.empty()) noneLeft_.notify_all();
    complete.push_back(read);
  }
  return complete;
}

std::vector<PendingReadPtr> SpanWaits::fail(uint32_t span) {
  std::lock_guard lock(mutex_);
  const auto found = spans_.find(span);
  if (found == spans_.end()) return {};
  const std::vector<PendingReadPtr> readers = std::move(found->second);
  spans_.erase(found);
  std::vector<PendingReadPtr> failed;
  for (const auto& read : readers) {
    if (read->left) continue;
    leave(read);
    failed.push_back(read);
  }
  return failed;
}

PendingReadPtr SpanWaits::interrupt(uint64_t unique) {
  std::lock_guard lock(mutex_);
  const auto found = reads_.find(unique);
  if (found == reads_.end()) {
    early_.push_back(unique);
    if (early_.size() > earlyMax) early_.pop_front();
    return nullptr;
  }
  const PendingReadPtr read = found->second;
  leave(read);
  return read;
}

// Takes a read out of everything it waits for. That a span is unwanted is said below the lock: whoever wants it next says so behind it.
void SpanWaits::leave(const PendingReadPtr& read) {
  read->left = true;
  reads_.erase(read->header.unique);
  if (reads_.empty()) noneLeft_.notify_all();
  for (const ReadSlice& slice : read->slices) {
    const auto found = spans_.find(slice.span);
    if (found == spans_.end()) continue;
    std::erase(found->second, read);
    if (!found->second.empty()) continue;
    spans_.erase(found);
    events_.push(EventKind::spanUnwanted, slice.span);
  }
}

void SpanWaits::waitUntilNone(std::chrono::steady_clock::time_point until) {
  std::unique_lock lock(mutex_);
  noneLeft_.wait_until(lock, until, [this] { return reads_.empty(); });
}

void SpanWaits::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  spans_.clear();
  reads_.clear();
  early_.clear();
}

SpanWaits::State SpanWaits::state() {
  std::lock_guard lock(mutex_);
  State state;
  for (const auto& [unique, read] : reads_) state.reads.push_back(read);
  for (const auto& [span, readers] : spans_) state.spans.push_back({span, readers.size()});
  return state;
}

size_t SpanWaits::readCount() {
  std::lock_guard lock(mutex_);
  return reads_.size();
}

}  // namespace skim::fuse
