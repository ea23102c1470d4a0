// One FUSE connection: the threads that serve it, from an open /dev/fuse to the end of the mount.
//
// Worker threads read requests and answer them. What the tree knows, and what is verified in the cache, they answer at once and alone. A read
// of anything else becomes a PendingRead (span-waits.h) and the worker goes on to the next request: no worker ever waits for the
// network, or for JavaScript. Spans that are in the cache but not verified yet are verified by the worker that met them.
//
// Node ids are inode numbers of the archive, and there are no handles and no lookup counts. So a session has no state that matters to the kernel: one
// that died may be followed by another on the same descriptor (`predecessor`), which asks for what was not answered to be sent again.
//
// All requests go through the one descriptor. Copies by FUSE_DEV_IOC_CLONE would spread a lock over several, but a request belongs to the
// descriptor it was read from, and dies with it: a server that is killed would take them along.
//
// A session may also let go of a connection that others hold (`release`): it stops reading, answers what it has read, and closes its copy of the descriptor.

#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "fuse/cached-layer.h"
#include "fuse/event-queue.h"
#include "fuse/image-tree.h"
#include "fuse/metadata.h"
#include "fuse/operation-names.h"
#include "fuse/reply-pipe.h"
#include "fuse/span-waits.h"
#include "unique-fd.h"

namespace skim::fuse {

// What was agreed with the kernel at FUSE_INIT: all that a successor on the same descriptor needs.
struct InitResult {
  uint32_t version = 1;
  uint32_t minor = 0;
  uint64_t flags = 0;

  // Where a server died after it had answered FUSE_INIT and before it could tell anybody. Nothing is read from it but whether requests can be sent again, and that the
  // kernel says itself.
  static InitResult unknown();
};
static_assert(sizeof(InitResult) == 16);

struct SessionOptions {
  unsigned threads;
  bool trace;
  std::string label;  // begins the lines of a trace: several sessions of a process write to one stream
};

// Counts that only grow. Read by anybody at any time.
struct SessionCounters {
  std::array<std::atomic<uint64_t>, opcodesMax> operations{};
  std::atomic<uint64_t> reads{0};          // READ requests answered with bytes (0 bytes included)
  std::atomic<uint64_t> readBytes{0};      // bytes in those answers
  std::atomic<uint64_t> waitedReads{0};    // of them, those that waited for a span
  std::atomic<uint64_t> cachedSpans{0};    // pieces of reads taken from the cache file without waiting
  std::atomic<uint64_t> verifiedSpans{0};  // spans of the cache that workers compared with their digests, and found right
  std::atomic<uint64_t> failedReads{0};    // READ requests answered with an error
  std::atomic<uint64_t> interruptedReads{0};
};

class Session {
 public:
  // Takes `fd` over and starts serving. Throws systemError where no thread can be started; then nothing is left.
  Session(UniqueFd fd, std::shared_ptr<const ImageTree> tree, const SessionOptions& options,
          std::optional<InitResult> predecessor, std::function<void()> notify);
  // The session has ended, or could not be started.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // From now on reads of `layer` look into `cache` first; an empty pointer takes it away.
  void attach(uint32_t layer, std::shared_ptr<CachedLayer> cache);
  // A span that was wanted is there, verified. Copies what waiting reads want of it; they are answered by a thread of the session.
  void landed(uint32_t span, const uint8_t* bytes, size_t length);
  // It could not be had: who waits for it gets `error`, a positive errno.
  void failed(uint32_t span, int error);
  // Asks the kernel to send again what a predecessor has not answered. False where the kernel cannot (before Linux 6.9).
  bool resend();
  // Stops reading requests, and ends the session when those that have been read are answered, or after `limit` without the rest. The connection lives on where others
  // have its descriptor open. Does not wait. Throws systemError where no thread can be started.
  void release(std::chrono::milliseconds limit);

  EventQueue& events() { return events_; }
  const SessionCounters& counters() const { return counters_; }
  std::optional<InitResult> initResult() const;
  // Text of a few lines: threads, waiting reads, spans in flight.
  std::string describe();
  // After EventKind::ended, on the thread that calls `release`: waits for the threads to be gone, which takes no time, and closes the descriptor.
  void join();

 private:
  struct Worker;

  void serve(Worker& worker);
  void handle(Worker& worker, Bytes request);
  void init(Worker& worker, const fuse_in_header& header, Bytes body);
  void read(Worker& worker, const fuse_in_header& header, Bytes body);
  void wait(Worker& worker, const fuse_in_header& header, const fuse_read_in& in, uint32_t length);
  bool takeCached(Worker& worker, ReadSlice& slice);
  // The layer's cache where the slice's span is verified in it.
  std::shared_ptr<CachedLayer> verifiedIn(const ReadSlice& slice) const;
  bool spliceCached(Worker& worker, const fuse_in_header& header, uint32_t length);
  void bring(Worker& worker, const ReadSlice& slice);
  void touch(const std::vector<ReadSlice>& slices);
  void interrupt(Bytes body);
  void leave();
  void finish();
  void stopAnswering();
  void assumeInitialized();

  // Sends the reply that stands in `reply`, with `length` bytes behind the header.
  void send(const fuse_in_header& header, Bytes body, uint8_t* reply, size_t length, uint64_t startedNs);
  void sendError(const fuse_in_header& header, Bytes body, int error, uint64_t startedNs);
  void trace(const fuse_in_header& header, Bytes body, int error, size_t length, uint64_t startedNs) const;
  void sendRead(const PendingReadPtr& read);
  void failRead(const PendingReadPtr& read, int error);
  void answerLater(std::vector<PendingReadPtr> reads, int error);
  void answerQueued();

  UniqueFd fd_;
  const std::shared_ptr<const ImageTree> tree_;
  const Metadata metadata_;
  const SessionOptions options_;
  EventQueue events_;
  SpanWaits waits_{events_};
  SessionCounters counters_;
  std::vector<std::atomic<std::shared_ptr<CachedLayer>>> layers_;
  // One byte a span: 1 from the first read on that wanted any of it.
  std::vector<std::atomic<uint8_t>> touched_;
  // False for a socket in its place (tests): splice would cut an answer into packets.
  const bool isDevice_;

  mutable std::mutex initMutex_;
  std::optional<InitResult> init_;
  std::atomic<bool> isInitialized_;

  // Reads that JavaScript has completed, for the answering thread: JavaScript itself writes to no descriptor that could keep it.
  struct Answer {
    PendingReadPtr read;
    int error;
  };
  std::mutex answersMutex_;
  std::condition_variable answersChanged_;
  std::deque<Answer> answers_;
  bool stopping_ = false;

  std::vector<std::unique_ptr<Worker>> workers_;
  std::thread answerer_;
  std::atomic<unsigned> serving_{0};
  std::thread releaser_;
  std::atomic<bool> releasing_{false};
  std::atomic<bool> finished_{false};
};

}  // namespace skim::fuse
