// A thread that hashes, and more, while its owner inflates.

#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <thread>

#include "gzip/sha256.h"

namespace skim {

class SideThread {
 public:
  using Task = std::function<void()>;

  SideThread() = default;
  ~SideThread() { stop(); }
  SideThread(const SideThread&) = delete;
  SideThread& operator=(const SideThread&) = delete;

  // Does `task`, now or later, behind all tasks before it; waits where too many are waiting. What it uses must stay as it is until `drain`. `workBytes`: it takes as long as hashing so
  // many bytes.
  void run(size_t workBytes, Task task);

  // Adds `bytes` to `hash`, as a task.
  void update(Sha256& hash, std::span<const uint8_t> bytes);

  // Waits until all tasks are done.
  void drain() noexcept;

  // Throws what the first task that failed has thrown; those behind it were not done. Behind `drain`.
  void rethrow() const;

  // Drains, and ends the thread; a further task would start another.
  void stop() noexcept;

 private:
  bool start();
  void work();
  void attempt(const Task& task) noexcept;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> queue_;  // the front one is being worked on
  bool stopping_ = false;
  std::exception_ptr failure_;
  std::thread thread_;  // started by the first task worth it
};

}  // namespace skim
