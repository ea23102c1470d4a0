// What one worker thread of a session works with. For session.cc and session-reads.cc only.

#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "fuse/reply-pipe.h"
#include "fuse/session.h"

namespace skim::fuse {

// A request is at most this long: no operation that could carry more reaches a read-only mount, and the kernel refuses to hand out less
// than FUSE_MIN_READ_BUFFER. max_write in the INIT reply says the same.
inline constexpr size_t requestBytesMax = 16 * 1024;

// What a READ can ask for without a buffer of its own: 256 pages, the most that the INIT reply allows.
inline constexpr size_t readBytesUsual = 1024 * 1024;

inline constexpr size_t headerBytes = sizeof(fuse_out_header);

inline uint64_t nowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Session::Worker {
  std::thread thread;
  std::array<uint8_t, requestBytesMax> request;
  // The reply: header and body. Its memory is used up to what replies were long.
  std::unique_ptr<uint8_t[]> reply;
  size_t replyBytes = 0;
  std::vector<ReadSlice> slices;
  std::vector<uint8_t> span;
  ReplyPipe pipe;
  std::vector<ReplyPipe::Piece> pieces;
  uint64_t startedNs = 0;
  // For describe(): the operation under way, 0 for none, and since when.
  std::atomic<uint32_t> busyWith{0};
  std::atomic<uint64_t> busySinceNs{0};

  void ensureReply(size_t bytes) {
    if (bytes <= replyBytes) return;
    reply = std::make_unique_for_overwrite<uint8_t[]>(bytes);
    replyBytes = bytes;
  }
};

}  // namespace skim::fuse
