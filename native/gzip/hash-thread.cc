// A thread that hashes while its owner inflates.
//
// A scan hashes every uncompressed byte twice (stream and span) and every compressed byte once. Without SHA instructions that takes
// longer than inflating: of 11 seconds for a layer of 700 MB, 6 were SHA-256. With the stream's and the blob's hash on a second
// core the scan takes as long as inflating and the span's hash do. The owner drains the queue before it hands the bytes back, so
// nothing outlives the call that it belongs to.

#include "gzip/hash-thread.h"

#include <system_error>

namespace skim {
namespace {

// Waking a thread costs about as much as hashing this many bytes.
constexpr size_t worthwhileBytes = 8u << 10;

}  // namespace

void HashThread::update(Sha256& hash, std::span<const uint8_t> bytes) {
  {
    std::lock_guard lock(mutex_);
    // With an empty queue the order is kept in any case.
    if (!queue_.empty() || (bytes.size() >= worthwhileBytes && start())) {
      queue_.push_back({&hash, bytes});
      bytes = {};
    }
  }
  if (bytes.empty())
    changed_.notify_all();
  else
    hash.update(bytes);
}

// False where the system has no thread left to give: then the owner hashes.
bool HashThread::start() {
  if (thread_.joinable()) return true;
  try {
    thread_ = std::thread([this] { run(); });
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

void HashThread::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.empty(); });
}

void HashThread::stop() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  stopping_ = false;
}

void HashThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const Update update = queue_.front();
    lock.unlock();
    update.hash->update(update.bytes);
    lock.lock();
    queue_.pop_front();
    if (queue_.empty()) changed_.notify_all();
  }
}

}  // namespace skim
