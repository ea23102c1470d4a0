// What the threads of a session have to tell JavaScript: pairs of a kind and a number, in the order they were said.

#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

namespace skim::fuse {

// The numbers are those of src/native/binding.ts, SessionEvent.
enum class EventKind : uint32_t {
  spanWanted = 0,    // value: index of a span that readers wait for. May be said again while it is wanted
  spanUnwanted = 1,  // nobody waits for it any more
  initialized = 2,   // FUSE_INIT has been answered
  ended = 3,         // the connection is gone, and no thread serves any more
  refused = 4,       // value: protocol minor of a kernel that is too old
  spanTouched = 5,   // value: index of a span that a read wants bytes of, for the first time in this session
};

class EventQueue {
 public:
  // `notify` is called from any thread when the queue is no longer empty; whoever it wakes calls takeAll.
  explicit EventQueue(std::function<void()> notify) : notify_(std::move(notify)) {}

  void push(EventKind kind, uint32_t value) {
    std::lock_guard lock(mutex_);
    const bool wasEmpty = events_.empty();
    events_.push_back(static_cast<uint32_t>(kind));
    events_.push_back(value);
    if (wasEmpty) notify_();
  }

  std::vector<uint32_t> takeAll() {
    std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<uint32_t> events_;
  std::function<void()> notify_;
};

}  // namespace skim::fuse
