#include "fuse/reply-pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace skim::fuse {
namespace {

constexpr size_t pageBytes = 4096;
// Room for 1 MiB of file pages and the header; pipes have a power of two of slots.
constexpr int pipeBytesWanted = 2 * 1024 * 1024;
constexpr int pipeBytesAllowed = 1024 * 1024;

// Slots of the largest pipe that may be had; 0 where none.
size_t openPipe(UniqueFd& out, UniqueFd& in) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return 0;
  out = UniqueFd(ends[0]);
  in = UniqueFd(ends[1]);
  int bytes = fcntl(ends[1], F_SETPIPE_SZ, pipeBytesWanted);
  if (bytes < 0) bytes = fcntl(ends[1], F_SETPIPE_SZ, pipeBytesAllowed);
  if (bytes < 0) bytes = fcntl(ends[1], F_GETPIPE_SZ);
  return bytes > 0 ? static_cast<size_t>(bytes) / pageBytes : 0;
}

}  // namespace

uint16_t ReplyPipe::readPagesMax() {
  UniqueFd out;
  UniqueFd in;
  constexpr uint16_t most = 256;
  // Bytes that do not start on a page touch one more; the header takes one.
  return openPipe(out, in) >= most + 2 ? most : most / 2;
}

bool ReplyPipe::open() {
  slots_ = openPipe(out_, in_);
  return slots_ > 0;
}

bool ReplyPipe::send(int fuseFd, const fuse_out_header& header, std::span<const Piece> pieces) {
  if (isUnsuited_) return false;
  if (in_.get() < 0 && !open()) {
    isUnsuited_ = true;
    return false;
  }
  size_t slots = 1;
  for (const Piece& piece : pieces) slots += (piece.offset % pageBytes + piece.length + pageBytes - 1) / pageBytes;
  if (slots > slots_) return false;
  const bool isFilled = fill(header, pieces);
  if (isFilled) {
    // What the kernel does not take (nobody waits for it any more) stays in the pipe.
    if (splice(out_.get(), nullptr, fuseFd, nullptr, header.len, 0) == static_cast<ssize_t>(header.len)) return true;
  }
  in_ = UniqueFd();
  out_ = UniqueFd();
  return isFilled;
}

bool ReplyPipe::fill(const fuse_out_header& header, std::span<const Piece> pieces) {
  if (write(in_.get(), &header, sizeof(header)) != sizeof(header)) return false;
  for (const Piece& piece : pieces) {
    auto offset = static_cast<off64_t>(piece.offset);
    for (size_t left = piece.length; left > 0;) {
      // The pipe has the room: waiting for some would be waiting for ourselves.
      const ssize_t moved = splice(piece.fd, &offset, in_.get(), nullptr, left, SPLICE_F_NONBLOCK);
      if (moved < 0 && errno == EINTR) continue;
      if (moved < 0 && errno == EINVAL) isUnsuited_ = true;
      if (moved <= 0) return false;
      left -= static_cast<size_t>(moved);
    }
  }
  return true;
}

}  // namespace skim::fuse
