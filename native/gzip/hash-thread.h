// A thread that hashes while its owner inflates.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <thread>

#include "gzip/sha256.h"

namespace skim {

class HashThread {
 public:
  HashThread() = default;
  ~HashThread() { stop(); }
  HashThread(const HashThread&) = delete;
  HashThread& operator=(const HashThread&) = delete;

  // Adds `bytes` to `hash`, now or later. Both must stay as they are until `drain`. Updates are done in their order.
  void update(Sha256& hash, std::span<const uint8_t> bytes);

  // Waits until all updates are done.
  void drain();

  // The same, and ends the thread; a further update would start another.
  void stop();

 private:
  struct Update {
    Sha256* hash;
    std::span<const uint8_t> bytes;
  };

  bool start();
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Update> queue_;  // the front one is being worked on
  bool stopping_ = false;
  std::thread thread_;  // started by the first update worth it
};

}  // namespace skim
