// The 32 KiB of history that inflate needs to restart at a deflate block, reduced to what is really used, and how it is stored.
//
// A checkpoint every MiB with a window of 32 KiB would make an archive 3 % of the uncompressed image; most windows of file data
// compress by half. But of those 32768 bytes the block behind the checkpoint refers to few: matches get shorter and rarer with
// distance, and only the first 32 KiB behind the checkpoint can reach back before it at all. The bytes that nobody refers to may
// as well be zeros, and zeros cost nothing.
//
// Which bytes are used? To see that, a bit stream need not be parsed here: inflate itself tells, if it is given windows whose bytes
// say where they are. Two inflate states, the tracers, start at the checkpoint next to the real one. They get the same compressed
// bytes but other windows, such that the two bytes at a position always differ, and together name it:
//
//      first  = position mod 256
//      second = first + 1 + position div 256   (mod 256; position div 256 is at most 127)
//
// A literal comes out of both tracers as the same byte. A byte that was copied from the window, directly or by way of other copies,
// comes out as the two bytes of its position. So where the outputs differ, they name a byte that is used:
//
//      first window    00 01 02 .. ff 00 01 ..        output   'x' 'y' 03 04 05 'z' ..
//      second window   01 02 03 .. 00 02 03 ..        output   'x' 'y' 05 06 07 'z' ..      -> 259, 260, 261 are used
//
// That is exact, for hostile streams as well, because what a tracer does depends on the compressed bytes alone: the control flow of
// inflate never looks at the output.
//
// After 32 KiB of output, or at the end of the deflate stream, the window is out of reach and the tracers are done. They cost
// twice 32 KiB of inflating for each span of about 1 MiB, and two inflate states of some 40 KiB while they run. Nothing is kept of the
// compressed bytes, so no stream, however long its empty blocks, makes the scanner hold more.
//
// The window is then cut at its first used byte: inflate takes a shorter one, and a distance that reaches beyond would be an
// error. If no byte is used the span has no window at all. What is left is stored as raw deflate.

#include "gzip/checkpoint-window.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

namespace skim {

namespace {

// Level 9 makes windows 5 % smaller, and a scan a quarter longer: its hash chains are full of the zeros.
constexpr int windowLevel = 6;

using TracerWindow = std::array<uint8_t, windowBytesMax>;

Bytes firstTracerWindow(size_t length) {
  static const TracerWindow window = [] {
    TracerWindow bytes;
    for (size_t position = 0; position < bytes.size(); position++) bytes[position] = static_cast<uint8_t>(position);
    return bytes;
  }();
  return Bytes(window).first(length);
}

Bytes secondTracerWindow(size_t length) {
  static const TracerWindow window = [] {
    TracerWindow bytes;
    for (size_t position = 0; position < bytes.size(); position++)
      bytes[position] = static_cast<uint8_t>(position + 1 + (position >> 8));
    return bytes;
  }();
  return Bytes(window).first(length);
}

// The position that a pair of different output bytes names.
size_t positionOf(uint8_t first, uint8_t second) {
  const auto apart = static_cast<uint8_t>(second - first);
  return first | size_t{static_cast<uint8_t>(apart - 1)} << 8;
}

}  // namespace

WindowProbe::WindowProbe(Bytes window, unsigned startBit, uint8_t checkpointByte)
    : window_(window.begin(), window.end()),
      usedMask_(window.size()),
      firstTracer_(startBit, firstTracerWindow(window.size())),
      secondTracer_(startBit, secondTracerWindow(window.size())) {
  if (startBit != 0) follow({&checkpointByte, 1});
}

void WindowProbe::follow(Bytes compressed) {
  std::array<uint8_t, 4096> first;
  std::array<uint8_t, 4096> second;
  while (outputLeft_ > 0) {
    const size_t wanted = std::min<size_t>(first.size(), outputLeft_);
    const Step step = firstTracer_.step(compressed, {first.data(), wanted});
    secondTracer_.step(compressed, {second.data(), wanted});
    noteUsed(first.data(), second.data(), step.produced);
    outputLeft_ -= static_cast<uint32_t>(step.produced);
    compressed = compressed.subspan(step.consumed);
    if (step.boundary == Boundary::member) end();
    if (step.consumed == 0 && step.produced == 0) return;
  }
}

// Most of a file's bytes are literals, or copies of its own: eight that are the same are passed over at once.
void WindowProbe::noteUsed(const uint8_t* first, const uint8_t* second, size_t length) {
  for (size_t i = 0; i < length; i++) {
    while (i + 8 <= length && std::memcmp(first + i, second + i, 8) == 0) i += 8;
    if (i < length && first[i] != second[i]) usedMask_.at(positionOf(first[i], second[i])) = 0xff;
  }
}

std::vector<uint8_t> WindowProbe::sparseWindow() const {
  const auto firstUsed = static_cast<size_t>(std::find(usedMask_.begin(), usedMask_.end(), 0xff) - usedMask_.begin());
  std::vector<uint8_t> sparse(usedMask_.size() - firstUsed);
  for (size_t i = 0; i < sparse.size(); i++) sparse[i] = window_[firstUsed + i] & usedMask_[firstUsed + i];
  return sparse;
}

std::vector<uint8_t> deflateWindow(Bytes window) {
  if (window.empty()) return {};
  z_stream stream{};
  if (deflateInit2(&stream, windowLevel, Z_DEFLATED, Inflater::rawDeflate, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::bad_alloc();
  std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, deflateEnd);
  std::vector<uint8_t> stored(deflateBound(&stream, window.size()));
  stream.next_in = const_cast<Bytef*>(window.data());
  stream.avail_in = static_cast<uInt>(window.size());
  stream.next_out = stored.data();
  stream.avail_out = static_cast<uInt>(stored.size());
  deflate(&stream, Z_FINISH);
  stored.resize(stream.total_out);
  return stored;
}

std::vector<uint8_t> inflateWindow(Bytes stored, uint32_t length) {
  if (stored.empty() && length == 0) return {};
  Inflater inflater(Inflater::rawDeflate);
  std::vector<uint8_t> window(length);
  z_stream& stream = inflater.stream;
  stream.next_in = const_cast<Bytef*>(stored.data());
  stream.avail_in = static_cast<uInt>(stored.size());
  stream.next_out = window.data();
  stream.avail_out = length;
  if (inflate(&stream, Z_FINISH) != Z_STREAM_END || stream.avail_in != 0 || stream.avail_out != 0)
    throw StreamError("the stored window does not inflate to its length");
  return window;
}

}  // namespace skim
