// Zstandard frames, one after the other (RFC 8878, section 3.1).
//
// A frame can be decoded on its own; within it, blocks refer back as far as the frame's window, which may be the whole frame, and to
// the entropy tables of blocks before. So the only place to restart is the start of a frame. Most layers are a single frame,
// and then everything depends on everything before it; tools that want random access (zstd:chunked, pzstd, the seekable format)
// write many. Skippable frames carry no data and are passed over; a restart before one is as good as a restart behind it.
//
//   frame      magic 4, descriptor 1, rest of the header 0 to 13, blocks, checksum 0 or 4
//   block      header 3: bit 0 last, bits 1 and 2 type, the others size; then size bytes (type RLE: 1 byte)
//   skippable  magic 4, length 4, length bytes
//
// The library decodes blocks; this file walks the frame around them, and gives it one field or block at a time. It could walk
// by itself, but how much input it takes then depends on how much it gets at once and on the room for output: it takes uncompressed blocks in
// parts, looks ahead when a block is done, and gives back the last byte of a frame while it holds output. Where a span ends must
// not depend on such things. Here the answer is simple: with a byte of output goes the block that it came from, to its end.
// (It also has a shortcut for whole frames in its input that trips over headers which came in two pieces.)
//
// Two of its habits remain. It holds output back when there is no room for it; that is known to be over (`drained_`) when a call has
// left some room. And it fails when it is called too often with nothing to do, so it is not called then.
//
// Of the formats from before 2016, which Debian's library also decodes, nothing is accepted: no layer has them and no other container
// tool takes them. Unlike gzip there is no custom of padding: whatever stands behind a frame must be a frame, as for zstd(1).
//
// Memory. A frame names the window it needs, up to 2^41 bytes. Decoding allocates that much, so it is bounded at 128 MiB
// (2^27), which is where zstd(1) stops as well unless it is told otherwise: --ultra -22 needs exactly that.

#include "gzip/zstd-stream.h"

#include <zstd_errors.h>

#include <algorithm>
#include <new>

namespace skim {
namespace {

constexpr int windowLogMax = 27;

// Block types, RFC 8878, 3.1.1.2.2. A block of type RLE is one byte, repeated `size` times.
constexpr uint32_t blockTypeRle = 1;

uint32_t littleEndian(const uint8_t* at, size_t length) {
  uint32_t value = 0;
  for (size_t i = 0; i < length; i++) value |= uint32_t{at[i]} << (8 * i);
  return value;
}

// Length of a frame's header behind its descriptor: window descriptor, dictionary id, content size (RFC 8878, 3.1.1.1).
size_t headerRestLength(uint8_t descriptor) {
  static constexpr size_t dictionaryIdLengths[] = {0, 1, 2, 4};
  static constexpr size_t contentSizeLengths[] = {0, 2, 4, 8};
  const bool singleSegment = (descriptor & 0x20) != 0;
  const unsigned contentSizeFlag = descriptor >> 6;
  return (singleSegment ? 0 : 1) + dictionaryIdLengths[descriptor & 3] +
         (contentSizeFlag == 0 && singleSegment ? 1 : contentSizeLengths[contentSizeFlag]);
}

}  // namespace

ZstdStream::ZstdStream() : context_(ZSTD_createDCtx()) {
  if (!context_) throw std::bad_alloc();
  ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, windowLogMax);
}

Step ZstdStream::step(Bytes input, std::span<uint8_t> room) {
  if (part_ == Part::skippable) return skip(input);
  if (part_ == Part::block) {
    const Step step = decodeBlock(input, room);
    // Where only the end of the block was found, the step goes on behind it: one that moves nothing would mean want of input.
    if (part_ == Part::block || step.consumed > 0 || step.produced > 0 || step.boundary != Boundary::none) return step;
  }
  return takeField(input);
}

void ZstdStream::expectField(Part part, size_t length) {
  part_ = part;
  fieldEnd_ = fieldTaken_ + length;
}

Step ZstdStream::takeField(Bytes input) {
  Step step{.consumed = std::min(input.size(), fieldEnd_ - fieldTaken_)};
  std::copy_n(input.begin(), step.consumed, field_.begin() + static_cast<ptrdiff_t>(fieldTaken_));
  fieldTaken_ += step.consumed;
  if (fieldTaken_ == fieldEnd_) step.boundary = fieldComplete();
  return step;
}

Boundary ZstdStream::fieldComplete() {
  switch (part_) {
    case Part::magic: {
      const uint32_t magic = littleEndian(field_.data(), 4);
      if (magic == ZSTD_MAGICNUMBER) {
        expectField(Part::descriptor, 1);
      } else if ((magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START) {
        fieldTaken_ = 0;
        expectField(Part::skippableLength, 4);
      } else {
        throw StreamError("no zstd frame header");
      }
      return Boundary::none;
    }
    case Part::skippableLength:
      partLeft_ = littleEndian(field_.data(), 4);
      part_ = Part::skippable;
      return partLeft_ == 0 ? frameComplete() : Boundary::none;
    case Part::descriptor:
      checksum_ = (field_[4] & 4) != 0;
      expectField(Part::header, headerRestLength(field_[4]));
      return fieldTaken_ == fieldEnd_ ? fieldComplete() : Boundary::none;
    case Part::header:
      feedField();
      expectField(Part::blockHeader, 3);
      return Boundary::none;
    case Part::blockHeader: {
      const uint32_t header = littleEndian(field_.data(), 3);
      lastBlock_ = (header & 1) != 0;
      partLeft_ = (header >> 1 & 3) == blockTypeRle ? 1 : header >> 3;
      part_ = Part::block;
      const size_t result = feedField();
      return partLeft_ == 0 ? blockComplete(result) : Boundary::none;
    }
    case Part::checksum:
      if (feedField() != 0) throw StreamError("the zstd frame does not end where its blocks do");
      return frameComplete();
    case Part::skippable:
    case Part::block:
      break;
  }
  return Boundary::none;
}

Step ZstdStream::skip(Bytes input) {
  Step step{.consumed = static_cast<size_t>(std::min<uint64_t>(input.size(), partLeft_))};
  partLeft_ -= step.consumed;
  if (partLeft_ == 0) step.boundary = frameComplete();
  return step;
}

Step ZstdStream::decodeBlock(Bytes input, std::span<uint8_t> room) {
  input = input.first(static_cast<size_t>(std::min<uint64_t>(input.size(), partLeft_)));
  if (room.empty() || (input.empty() && drained_)) return {};
  ZSTD_inBuffer in{input.data(), input.size(), 0};
  ZSTD_outBuffer out{room.data(), room.size(), 0};
  const size_t result = decompress(in, out);
  partLeft_ -= in.pos;
  drained_ = out.pos < out.size || result == 0;
  Step step{.consumed = in.pos, .produced = out.pos};
  if (partLeft_ == 0 && drained_) step.boundary = blockComplete(result);
  return step;
}

// `result` is that of the library's last call: 0 at the end of a frame.
Boundary ZstdStream::blockComplete(size_t result) {
  drained_ = true;
  if (lastBlock_ && !checksum_) {
    if (result != 0) throw StreamError("the zstd frame does not end where its blocks do");
    return frameComplete();
  }
  expectField(lastBlock_ ? Part::checksum : Part::blockHeader, lastBlock_ ? checksumBytes : 3);
  return Boundary::none;
}

Boundary ZstdStream::frameComplete() {
  firstFrame_ = false;
  fieldTaken_ = 0;
  expectField(Part::magic, 4);
  return Boundary::member;
}

// Gives the library the field that was collected, which never makes output. Returns what its call returned.
size_t ZstdStream::feedField() {
  ZSTD_inBuffer in{field_.data(), fieldTaken_, 0};
  ZSTD_outBuffer out{nullptr, 0, 0};
  const size_t result = decompress(in, out);
  if (in.pos != in.size) throw StreamError("the zstd frame is not laid out as its header says");
  fieldTaken_ = 0;
  return result;
}

size_t ZstdStream::decompress(ZSTD_inBuffer& in, ZSTD_outBuffer& out) {
  const size_t result = ZSTD_decompressStream(context_.get(), &out, &in);
  if (!ZSTD_isError(result)) return result;
  switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_memory_allocation:
      throw std::bad_alloc();
    case ZSTD_error_frameParameter_windowTooLarge:
      throw StreamError("the zstd frame needs a window of more than 128 MiB");
    default:
      throw StreamError(ZSTD_getErrorName(result));
  }
}

}  // namespace skim
