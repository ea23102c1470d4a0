// READ: from the cache at once, or through a PendingRead when its spans have come (span-waits.h).

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "fuse/session-worker.h"
#include "fuse/session.h"

namespace skim::fuse {
namespace {

// A READ for more than this is none of a kernel's.
constexpr size_t readBytesMax = 64 * 1024 * 1024;

// Shorter answers are copied: a pipe costs two more system calls.
constexpr uint32_t splicedBytesMin = 64 * 1024;

// Verifying a span takes a buffer of its size; one of the usual size is kept.
constexpr size_t spanBytesKept = 4 * 1024 * 1024;

}  // namespace

void Session::read(Worker& worker, const fuse_in_header& header, Bytes body) {
  const auto refuse = [&](int error) {
    counters_.failedReads.fetch_add(1, std::memory_order_relaxed);
    sendError(header, body, error, worker.startedNs);
  };
  fuse_read_in in;
  if (!take(body, in) || in.size > readBytesMax) return refuse(EINVAL);
  const auto file = tree_->inode(header.nodeid);
  if (!file) return refuse(ESTALE);
  if (S_ISDIR(file->mode)) return refuse(EISDIR);
  if (!S_ISREG(file->mode)) return refuse(EINVAL);
  const uint64_t available = in.offset < file->size ? file->size - in.offset : 0;
  const auto length = static_cast<uint32_t>(std::min<uint64_t>(in.size, available));
  worker.ensureReply(headerBytes + length);
  uint8_t* bytes = worker.reply.get() + headerBytes;
  if (!planRead(*tree_, *file, in.offset, bytes, length, worker.slices)) return refuse(EIO);
  touch(worker.slices);
  if (isDevice_ && length >= splicedBytesMin && spliceCached(worker, header, length)) {
    counters_.reads.fetch_add(1, std::memory_order_relaxed);
    counters_.readBytes.fetch_add(length, std::memory_order_relaxed);
    return trace(header, body, 0, length, worker.startedNs);
  }
  std::erase_if(worker.slices, [&](ReadSlice& slice) { return takeCached(worker, slice); });
  if (!worker.slices.empty()) return wait(worker, header, in, length);
  counters_.reads.fetch_add(1, std::memory_order_relaxed);
  counters_.readBytes.fetch_add(length, std::memory_order_relaxed);
  send(header, body, worker.reply.get(), length, worker.startedNs);
}

// Tells JavaScript of spans that are read for the first time, before it hears that they are wanted: read-ahead and start profiles go by it.
void Session::touch(const std::vector<ReadSlice>& slices) {
  for (const ReadSlice& slice : slices) {
    auto& touched = touched_[slice.span];
    if (touched.load(std::memory_order_relaxed) == 0 && touched.exchange(1, std::memory_order_relaxed) == 0)
      events_.push(EventKind::spanTouched, slice.span);
  }
}

std::shared_ptr<CachedLayer> Session::verifiedIn(const ReadSlice& slice) const {
  auto cache = layers_[slice.layer].load();
  const bool isVerified = cache && slice.localSpan < cache->spanCount() && cache->isVerified(slice.localSpan);
  if (!isVerified) return nullptr;
  cache->noteUse(slice.localSpan);
  return cache;
}

// Answers with pages of the cache files, where these have every byte of the read.
bool Session::spliceCached(Worker& worker, const fuse_in_header& header, uint32_t length) {
  uint64_t found = 0;
  // The files stay open as long as these are held.
  std::vector<std::shared_ptr<CachedLayer>> caches;
  worker.pieces.clear();
  for (const ReadSlice& slice : worker.slices) {
    auto cache = verifiedIn(slice);
    if (!cache) return false;
    worker.pieces.push_back({cache->dataFd(), cache->spanOffset(slice.localSpan) + slice.spanOffset, slice.length});
    found += slice.length;
    caches.push_back(std::move(cache));
  }
  if (found != length) return false;
  fuse_out_header out{};
  out.len = static_cast<uint32_t>(headerBytes + length);
  out.unique = header.unique;
  if (!worker.pipe.send(fd_.get(), out, worker.pieces)) return false;
  counters_.cachedSpans.fetch_add(worker.slices.size(), std::memory_order_relaxed);
  return true;
}

// Fills the slice's part of the reply from the cache file. False where that has to wait.
bool Session::takeCached(Worker& worker, ReadSlice& slice) {
  const auto cache = verifiedIn(slice);
  if (!cache) return false;
  uint8_t* into = worker.reply.get() + headerBytes + slice.into;
  if (!cache->read(cache->spanOffset(slice.localSpan) + slice.spanOffset, into, slice.length)) {
    // Truncated, or a disk that fails: JavaScript finds out, and fetches the span again.
    slice.unreadable = true;
    return false;
  }
  counters_.cachedSpans.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// What the reply of `worker` has so far moves to a PendingRead, and the worker is free again, but for verifying what is on disk.
void Session::wait(Worker& worker, const fuse_in_header& header, const fuse_read_in& in, uint32_t length) {
  auto pending = std::make_shared<PendingRead>();
  pending->header = header;
  pending->offset = in.offset;
  pending->length = length;
  pending->startedNs = worker.startedNs;
  // Long ones are not copied: the worker gets another buffer.
  constexpr uint32_t copiedBytesMax = 64 * 1024;
  if (length > copiedBytesMax) {
    pending->reply = std::exchange(worker.reply, nullptr);
    worker.replyBytes = 0;
    worker.ensureReply(headerBytes + readBytesUsual);
  } else {
    pending->reply = std::make_unique_for_overwrite<uint8_t[]>(headerBytes + length);
    std::memcpy(pending->reply.get(), worker.reply.get(), headerBytes + length);
  }
  pending->slices = worker.slices;
  counters_.waitedReads.fetch_add(1, std::memory_order_relaxed);
  const SpanWaits::Entered entered = waits_.enter(pending);
  if (entered.interrupted) return failRead(pending, EINTR);
  for (const ReadSlice& slice : entered.bring) bring(worker, slice);
}

// Whoever began to wait for a span first sees to it that it comes.
void Session::bring(Worker& worker, const ReadSlice& slice) {
  const auto cache = slice.unreadable ? nullptr : layers_[slice.layer].load();
  if (cache && slice.localSpan < cache->spanCount()) {
    // It may have become verified since it was looked for; then this is only a second read of it.
    const CachedLayer::Check check = cache->verify(slice.localSpan, worker.span);
    if (check == CachedLayer::Check::verified) {
      counters_.verifiedSpans.fetch_add(1, std::memory_order_relaxed);
      cache->noteUse(slice.localSpan);
      for (const auto& read : waits_.land(slice.span, worker.span.data(), worker.span.size())) sendRead(read);
      if (worker.span.size() > spanBytesKept) worker.span = {};
      return;
    }
  }
  // Its reader may have gone meanwhile.
  waits_.want(slice.span);
}

void Session::landed(uint32_t span, const uint8_t* bytes, size_t length) { answerLater(waits_.land(span, bytes, length), 0); }

void Session::failed(uint32_t span, int error) { answerLater(waits_.fail(span), error); }

void Session::interrupt(Bytes body) {
  fuse_interrupt_in in;
  if (!take(body, in)) return;
  if (const auto read = waits_.interrupt(in.unique)) {
    counters_.interruptedReads.fetch_add(1, std::memory_order_relaxed);
    failRead(read, EINTR);
  }
}

void Session::answerLater(std::vector<PendingReadPtr> reads, int error) {
  if (reads.empty()) return;
  {
    std::lock_guard lock(answersMutex_);
    for (auto& read : reads) answers_.push_back({std::move(read), error});
  }
  answersChanged_.notify_one();
}

void Session::answerQueued() {
  std::unique_lock lock(answersMutex_);
  for (;;) {
    answersChanged_.wait(lock, [this] { return stopping_ || !answers_.empty(); });
    if (answers_.empty()) return;
    const Answer answer = std::move(answers_.front());
    answers_.pop_front();
    lock.unlock();
    if (answer.error == 0)
      sendRead(answer.read);
    else
      failRead(answer.read, answer.error);
    lock.lock();
  }
}

void Session::sendRead(const PendingReadPtr& read) {
  if (read->damaged) return failRead(read, EIO);
  counters_.reads.fetch_add(1, std::memory_order_relaxed);
  counters_.readBytes.fetch_add(read->length, std::memory_order_relaxed);
  fuse_read_in in{};
  in.offset = read->offset;
  in.size = read->length;
  send(read->header, Bytes(reinterpret_cast<const uint8_t*>(&in), sizeof(in)), read->reply.get(), read->length, read->startedNs);
}

void Session::failRead(const PendingReadPtr& read, int error) {
  if (error != EINTR) counters_.failedReads.fetch_add(1, std::memory_order_relaxed);
  fuse_read_in in{};
  in.offset = read->offset;
  in.size = read->length;
  sendError(read->header, Bytes(reinterpret_cast<const uint8_t*>(&in), sizeof(in)), error, read->startedNs);
}

}  // namespace skim::fuse
