// What the scanner and the decoder see of a compression: bytes in, bytes out, and where decompression could restart.

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

#include "gzip/span-record.h"

namespace skim {

// Compressed bytes that are not what they should be. The message is a clause that fits behind "at byte N: ".
class StreamError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Where the stream stands after a step.
enum class Boundary {
  none,
  block,   // between two deflate blocks of a member: GzipStream::startBit and copyWindow tell how to restart here
  member,  // behind a gzip member or zstd frame
};

struct Step {
  size_t consumed = 0;
  size_t produced = 0;
  Boundary boundary = Boundary::none;
  bool held = false;  // there was no room, and output that found none
};

class LayerStream {
 public:
  virtual ~LayerStream() = default;

  // Decompresses from `input` into `room` until one of them is used up or a boundary is reached, whichever is first. Either may
  // be empty: without input, what is known already is delivered; without room, a stream that cannot tell its outstandingBytes takes
  // input until output is held. A step with room that moves nothing and reaches no boundary needs input. Throws StreamError.
  virtual Step step(Bytes input, std::span<uint8_t> room) = 0;

  // Whether the compressed data may end here.
  virtual bool atEnd() const = 0;

  // Bytes at the end of a member that no uncompressed byte depends on: a checksum.
  virtual uint64_t trailerBytes() const { return 0; }

  // How many bytes behind those taken belong to the output so far: they must be there to decode it from a restart point. Nothing
  // where that is known only when further output is held.
  virtual std::optional<uint64_t> outstandingBytes() const { return std::nullopt; }

  // Bytes taken behind the compressed data. More than 0 means that no data will follow.
  virtual uint64_t trailingBytes() const { return 0; }
};

}  // namespace skim
