#include "fuse/cached-layer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "errors.h"
#include "gzip/sha256.h"

namespace skim {
namespace {

constexpr size_t spanRecordBytes = 80;
constexpr size_t lengthAt = 8;
constexpr size_t digestAt = 48;
// presence-map.ts: a header of 64 bytes, then one byte a span.
constexpr off_t mapHeaderBytes = 64;

static_assert(sizeof(std::atomic<uint8_t>) == 1 && std::atomic<uint8_t>::is_always_lock_free);

UniqueFd copyOf(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (copy.get() < 0) throw systemError(errno, "fcntl");
  return copy;
}

bool writeAll(int fd, std::span<const uint8_t> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t put = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return true;
}

// Lets the next thread have the span.
struct CheckingEnd {
  std::atomic<uint8_t>& checking;
  ~CheckingEnd() {
    checking.store(0, std::memory_order_release);
    checking.notify_all();
  }
};

}  // namespace

CachedLayer::CachedLayer(int dataFd, int mapFd, std::span<const uint8_t> spanRecords)
    : data_(copyOf(dataFd)), map_(copyOf(mapFd)) {
  if (spanRecords.size() % spanRecordBytes != 0) throw misuse("span records are given whole");
  const size_t count = spanRecords.size() / spanRecordBytes;
  spans_.resize(count);
  for (size_t i = 0; i < count; i++) {
    const uint8_t* record = spanRecords.data() + i * spanRecordBytes;
    std::memcpy(&spans_[i].offset, record, sizeof(spans_[i].offset));
    std::memcpy(&spans_[i].length, record + lengthAt, sizeof(spans_[i].length));
    std::memcpy(spans_[i].sha256.data(), record + digestAt, spans_[i].sha256.size());
  }
  verified_.reset(new std::atomic<uint8_t>[count]());
  used_.reset(new std::atomic<uint8_t>[count]());
  checking_.reset(new std::atomic<uint8_t>[count]());
}

bool CachedLayer::read(uint64_t offset, uint8_t* into, size_t length) const {
  while (length > 0) {
    const ssize_t got = pread(data_.get(), into, length, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into += got;
    offset += static_cast<uint64_t>(got);
    length -= static_cast<size_t>(got);
  }
  return true;
}

bool CachedLayer::store(uint32_t span, std::span<const uint8_t> bytes) {
  if (bytes.size() != spans_[span].length || !writeAll(data_.get(), bytes, spans_[span].offset)) return false;
  const uint8_t present = 1;
  if (!writeAll(map_.get(), {&present, 1}, static_cast<uint64_t>(mapHeaderBytes) + span)) return false;
  verified_[span].store(1, std::memory_order_release);
  noteUse(span);
  return true;
}

bool CachedLayer::isPresent(uint32_t span) const {
  uint8_t byte = 0;
  return pread(map_.get(), &byte, 1, mapHeaderBytes + span) == 1 && byte == 1;
}

CachedLayer::Check CachedLayer::verify(uint32_t span, std::vector<uint8_t>& bytes) {
  auto& checking = checking_[span];
  while (checking.exchange(1, std::memory_order_acquire) == 1) checking.wait(1);
  const CheckingEnd end{checking};
  if (!isVerified(span)) return readAndCompare(span, bytes);
  bytes.resize(spans_[span].length);
  return read(spans_[span].offset, bytes.data(), bytes.size()) ? Check::verified : Check::damaged;
}

void CachedLayer::verifyAhead(uint32_t span, std::vector<uint8_t>& bytes) {
  if (isVerified(span)) return;
  auto& checking = checking_[span];
  if (checking.exchange(1, std::memory_order_acquire) == 1) return;
  const CheckingEnd end{checking};
  // What is damaged is left as it is: its reader finds out, and has it fetched again.
  if (!isVerified(span)) readAndCompare(span, bytes);
}

CachedLayer::Check CachedLayer::readAndCompare(uint32_t span, std::vector<uint8_t>& bytes) {
  if (!isPresent(span)) return Check::absent;
  const Span& wanted = spans_[span];
  bytes.resize(wanted.length);
  if (!read(wanted.offset, bytes.data(), wanted.length)) return Check::damaged;
  Sha256 hash;
  hash.update(bytes);
  if (hash.finish() != wanted.sha256) return Check::damaged;
  verified_[span].store(1, std::memory_order_release);
  return Check::verified;
}

}  // namespace skim
