// libdeflate (Debian package libdeflate-dev; its libdeflate.h is the reference) knows neither windows nor streams that begin within a byte. Both can be written into the stream: a
// stored block with the window's bytes, which is inflated by copying them, and the bits behind it moved to where a byte begins.
//
//     00 | length, ~length | window            a stored block, not the last one (RFC 1951, 3.2.4)
//     compressed >> startBit                    the blocks of the span
//
// The span ends at the end of a block, as the next one begins with one. libdeflate looks for a further block there and finds that there is no room, or no input; by then all bytes
// of the span are written. So what it returns says nothing.

#include "gzip/whole-inflate.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <random>

#include "gzip/spare-memory.h"

namespace skim {
namespace {

constexpr size_t storedHeaderBytes = 5;

// The bits of `from` behind the first `by` (1 to 7), the last byte filled up with zeros.
void shiftDown(Bytes from, unsigned by, uint8_t* to) {
  size_t at = 0;
  for (; at + 9 <= from.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, from.data() + at, 8);
    word = word >> by | static_cast<uint64_t>(from[at + 8]) << (64 - by);
    std::memcpy(to + at, &word, 8);
  }
  for (; at < from.size(); at++) {
    const unsigned next = at + 1 < from.size() ? from[at + 1] : 0;
    to[at] = static_cast<uint8_t>((from[at] | next << 8) >> by);
  }
}

// The memory may hold this very span from before: where the blocks end early, that would be taken for inflated. Whatever does not reach the end leaves bytes there that nobody
// can have meant.
void spoilEnd(std::span<uint8_t> room) {
  static const auto noise = [] {
    std::random_device device;
    std::array<uint8_t, 16> bytes;
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(device());
    return bytes;
  }();
  const auto end = room.last(std::min(room.size(), noise.size()));
  std::copy_n(noise.begin(), end.size(), end.begin());
}

}  // namespace

WholeInflate::WholeInflate() : decompressor_(libdeflate_alloc_decompressor()) {
  if (!decompressor_) throw std::bad_alloc();
}

void WholeInflate::inflate(Bytes window, unsigned startBit, std::span<const Bytes> compressed, std::span<uint8_t> room) {
  size_t compressedBytes = 0;
  for (const Bytes& piece : compressed) compressedBytes += piece.size();
  const SpareMemory stream(storedHeaderBytes + window.size() + compressedBytes);
  const auto length = static_cast<uint16_t>(window.size());
  const uint16_t lengths[] = {length, static_cast<uint16_t>(~length)};
  stream.data()[0] = 0;
  std::memcpy(stream.data() + 1, lengths, sizeof(lengths));
  uint8_t* end = stream.data() + storedHeaderBytes;
  if (!window.empty()) std::memcpy(end, window.data(), window.size());
  end += window.size();
  for (const Bytes& piece : compressed) {
    if (startBit == 0) {
      std::memcpy(end, piece.data(), piece.size());
    } else {
      if (&piece != &compressed.front()) end[-1] |= static_cast<uint8_t>(piece[0] << (8 - startBit));
      shiftDown(piece, startBit, end);
    }
    end += piece.size();
  }
  spoilEnd(room);
  size_t written;
  libdeflate_deflate_decompress(decompressor_.get(), stream.data(), static_cast<size_t>(end - stream.data()), room.data(), room.size(), &written);
}

}  // namespace skim
