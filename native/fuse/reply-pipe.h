// Answers to READ whose bytes go from the page cache of a file to the kernel without a copy in this process (splice(2)).
//
// A pipe takes the header and references to the file's pages, and is then spliced to /dev/fuse, which copies from these pages straight to the
// reader's. On 1 MiB answers that is a third faster than pread and write. The pipe needs a slot for each page and one for the header: 257 for
// 1 MiB, more where the bytes do not start on a page; 256 are what a process without CAP_SYS_RESOURCE may have at most (fs.pipe-max-size). There the
// kernel is told to ask for half as much at a time: 512 KiB spliced are faster than 1 MiB copied (ARCHITECTURE.md).

#pragma once

#include <cstdint>
#include <span>

#include "fuse/protocol.h"
#include "unique-fd.h"

namespace skim::fuse {

class ReplyPipe {
 public:
  struct Piece {
    int fd;
    uint64_t offset;
    uint32_t length;
  };

  // Pages that a READ should ask for at most, so that its answer fits into a pipe of this process: 256 or 128.
  static uint16_t readPagesMax();

  // Sends `header` and the pieces behind it. False, with nothing sent, where they do not fit, cannot be spliced, or are not all there.
  bool send(int fuseFd, const fuse_out_header& header, std::span<const Piece> pieces);

 private:
  bool open();
  bool fill(const fuse_out_header& header, std::span<const Piece> pieces);

  UniqueFd in_;
  UniqueFd out_;
  size_t slots_ = 0;
  bool isUnsuited_ = false;  // no pipe can be had, or the cache's filesystem cannot splice
};

}  // namespace skim::fuse
