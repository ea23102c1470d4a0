// Gzip members, one after the other, with the places between deflate blocks made visible.

#pragma once

#include <array>

#include "gzip/inflater.h"
#include "gzip/layer-stream.h"

namespace skim {

class GzipStream final : public LayerStream {
 public:
  // What a member says of its output (RFC 1952, 2.3.1).
  struct Trailer {
    uint32_t crc = 0;
    uint32_t length = 0;  // modulo 2^32
  };

  // Starts before a member's header. Trailers are read and not compared: spans have digests that are stronger, and a scan can do it beside inflating.
  GzipStream();

  // Starts inside a member, at a deflate block that begins at bit `startBit` of the first input byte, with `window` before it.
  GzipStream(unsigned startBit, Bytes window);

  Step step(Bytes input, std::span<uint8_t> room) override;
  bool atEnd() const override;
  uint64_t trailerBytes() const override { return memberTrailerBytes; }
  uint64_t trailingBytes() const override { return trailing_; }

  // At Boundary::block: bits of the last byte taken that belong to the block before, 0 where it belongs to it wholly.
  unsigned startBit() const;

  // At Boundary::member, of the member that has ended; not of one whose header was not read by this object.
  Trailer trailer() const;

  // The last bytes of the member's output, at most 32 KiB; returns how many were copied to the start of `out`.
  size_t copyWindow(std::span<uint8_t, windowBytesMax> out);

 private:
  static constexpr uint64_t memberTrailerBytes = 8;

  enum class State { magic, prime, inflate, trailer, trailing };

  Step takeMagic(uint8_t byte);
  Step prime(uint8_t byte);
  Step inflateSome(Bytes input, std::span<uint8_t> room);
  Step skipTrailer(Bytes input);
  void noteLastBytes(Bytes taken);

  Inflater inflater_;
  State state_;
  bool inHeader_ = false;     // zlib checks the header's CRC
  std::array<uint8_t, memberTrailerBytes> lastBytes_{};  // that were taken
  bool raw_ = false;          // inside a member whose header was not read by this object
  bool firstMember_ = true;   // no member has ended yet
  unsigned magicTaken_ = 0;   // bytes of the two-byte magic
  unsigned startBit_ = 0;
  uint64_t trailerLeft_ = 0;
  uint64_t trailing_ = 0;
};

}  // namespace skim
