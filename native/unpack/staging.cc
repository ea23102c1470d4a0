#include "unpack/staging.h"

#include <fcntl.h>
#include <isa-l/crc.h>
#include <unistd.h>

#include <string>

#include "errors.h"
#include "unique-fd.h"

namespace skim {

uint32_t stageRanges(int directory, Bytes bytes, const std::vector<StagedRange>& ranges, uint32_t crc) {
  UniqueFd file;
  uint32_t number = 0;
  for (const StagedRange& range : ranges) {
    const std::string name = std::to_string(range.number);
    if (file.get() < 0 || range.number != number) {
      // A file that goes on from the buffer before is there already.
      file = UniqueFd(openat(directory, name.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
      if (file.get() < 0) throw systemError(errno, "open", name);
      number = range.number;
    }
    const Bytes piece = bytes.subspan(range.bytesOffset, range.length);
    for (size_t done = 0; done < piece.size();) {
      const ssize_t written =
          pwrite(file.get(), piece.data() + done, piece.size() - done, static_cast<off_t>(range.fileOffset + done));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) throw systemError(errno, "write", name);
      done += static_cast<size_t>(written);
    }
    crc = crc32_gzip_refl(crc, piece.data(), piece.size());
  }
  return crc;
}

}  // namespace skim
