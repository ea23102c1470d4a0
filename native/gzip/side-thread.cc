// A thread that hashes, and more, while its owner inflates.
//
// A scan hashes every uncompressed byte twice (stream and span) and every compressed byte once, and makes a window for each span. That is nearly half of
// its work where the CPU has SHA instructions (for a layer of 240 MB 0.5 s are SHA-256, 0.2 windows, 0.8 inflating), and more where it has none. Nothing of it
// decides how the scan goes on, so that on a second core the scan takes as long as inflating does. The owner drains the queue before it hands the
// bytes back, so nothing outlives the call that it belongs to.

#include "gzip/side-thread.h"

#include <system_error>
#include <utility>

namespace skim {
namespace {

// Waking a thread costs about as much as hashing this many bytes.
constexpr size_t worthwhileBytes = 8u << 10;

// Blocks of real layers are tens of KiB, and there are a few tasks for each. A hostile layer has a block in five bytes, and a window in a KiB.
constexpr size_t queuedMax = 256;

}  // namespace

void SideThread::run(size_t workBytes, Task task) {
  {
    std::unique_lock lock(mutex_);
    if (queue_.size() >= queuedMax) changed_.wait(lock, [this] { return queue_.empty(); });
    // With an empty queue the order is kept in any case.
    if (!queue_.empty() || (workBytes >= worthwhileBytes && start())) {
      queue_.push_back(std::move(task));
      task = nullptr;
    }
  }
  if (task)
    attempt(task);
  else
    changed_.notify_all();
}

void SideThread::update(Sha256& hash, std::span<const uint8_t> bytes) {
  run(bytes.size(), [&hash, bytes] { hash.update(bytes); });
}

// False where the system has no thread left to give: then the owner does the work.
bool SideThread::start() {
  if (thread_.joinable()) return true;
  try {
    thread_ = std::thread([this] { work(); });
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

void SideThread::drain() noexcept {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.empty(); });
}

void SideThread::rethrow() const {
  if (failure_) std::rethrow_exception(failure_);
}

void SideThread::stop() noexcept {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  stopping_ = false;
}

void SideThread::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const Task& task = queue_.front();
    lock.unlock();
    attempt(task);
    lock.lock();
    queue_.pop_front();
    if (queue_.empty()) changed_.notify_all();
  }
}

// Only one of the two threads is here at a time: the owner comes here with an empty queue.
void SideThread::attempt(const Task& task) noexcept {
  if (failure_) return;
  try {
    task();
  } catch (...) {
    failure_ = std::current_exception();
  }
}

}  // namespace skim
