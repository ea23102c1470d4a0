// Gzip members, one after the other, with the places between deflate blocks made visible.
//
// A gzip file is a sequence of members; each is a header, one deflate stream and a trailer with a CRC-32 and a length. A deflate
// stream is a sequence of blocks that need not begin at a byte: block n+1 begins at the bit after block n. What a block needs
// to be decoded is its own bits and the 32 KiB of output before it, nothing else. So decoding can begin in three kinds of
// places: at a member (nothing needed), at a block (a bit position and a window), or nowhere in between.
//
// Finding blocks. inflate() with Z_BLOCK returns when it has read the last bit of a block, and says so in data_type: bit 7 is set
// between blocks, bit 6 while the block is the member's last, and the low bits count the bits of the last byte taken that
// are not used yet. zlib takes single bytes where it nears its end of input or output, and gives back whole unused bytes after its
// fast loop, so fewer than eight bits are ever left over: the block begins in the last byte taken or right behind it. The end of
// a member's header is reported in the same way; it makes a poor restart point, since the header before it is a better one,
// and the scanner never has a reason to cut there.
//
// Starting at a block. Raw inflate (no header, no trailer), inflatePrime with the bits of the first byte that belong to the block,
// inflateSetDictionary with the window. When that deflate stream ends, eight bytes of trailer follow that raw inflate knows
// nothing of; they are skipped here. Their CRC could not be checked anyway without the start of the member. The next
// member is read with zlib's own gzip support.
//
// Between members. gzip(1) ends quietly at anything that is no gzip header: tape blocks are padded with zeros. So the two
// bytes of magic are looked at here before zlib sees them. Anything else behind the last member is counted and ignored, to the end,
// even if it holds another header later on. A header that begins with the right magic must be good, and so must the
// member behind it: a truncated layer must not pass for a complete one. A single 0x1f at the end is taken for such a truncated header.

#include "gzip/gzip-stream.h"

#include <algorithm>

namespace skim {
namespace {

constexpr uint8_t magicBytes[2] = {0x1f, 0x8b};

// zlib counts in 32 bits.
constexpr size_t stepBytesMax = 1u << 30;

// Bits of z_stream::data_type after inflate() with Z_BLOCK.
constexpr int unusedBitsMask = 7;
constexpr int lastBlock = 64;
constexpr int betweenBlocks = 128;

}  // namespace

GzipStream::GzipStream() : inflater_(Inflater::gzipMember), state_(State::magic) {}

GzipStream::GzipStream(unsigned startBit, Bytes window)
    : inflater_(Inflater::rawDeflate),
      state_(startBit == 0 ? State::inflate : State::prime),
      raw_(true),
      startBit_(startBit) {
  if (!window.empty() &&
      inflateSetDictionary(&inflater_.stream, window.data(), static_cast<uInt>(window.size())) != Z_OK)
    throw std::bad_alloc();
}

Step GzipStream::step(Bytes input, std::span<uint8_t> room) {
  switch (state_) {
    case State::magic:
      return input.empty() ? Step{} : takeMagic(input[0]);
    case State::prime:
      return input.empty() ? Step{} : prime(input[0]);
    case State::inflate:
      return inflateSome(input, room);
    case State::trailer:
      return skipTrailer(input);
    case State::trailing:
      trailing_ += input.size();
      return {.consumed = input.size()};
  }
  return {};
}

Step GzipStream::takeMagic(uint8_t byte) {
  if (byte != magicBytes[magicTaken_]) {
    if (firstMember_) throw StreamError("no gzip header");
    state_ = State::trailing;
    trailing_ = magicTaken_ + 1;
    return {.consumed = 1};
  }
  if (++magicTaken_ < 2) return {.consumed = 1};

  magicTaken_ = 0;
  raw_ = false;
  inflater_.reset(Inflater::gzipMember);
  inHeader_ = true;
  state_ = State::inflate;
  inflateSome(magicBytes, {});
  return {.consumed = 1};
}

Step GzipStream::prime(uint8_t byte) {
  inflatePrime(&inflater_.stream, static_cast<int>(8 - startBit_), byte >> startBit_);
  state_ = State::inflate;
  return {.consumed = 1};
}

Step GzipStream::inflateSome(Bytes input, std::span<uint8_t> room) {
  // zlib refuses null pointers, even for nothing.
  static uint8_t nothing[1];
  z_stream& stream = inflater_.stream;
  const uInt available = static_cast<uInt>(std::min(input.size(), stepBytesMax));
  const uInt wanted = static_cast<uInt>(std::min(room.size(), stepBytesMax));
  stream.next_in = available == 0 ? nothing : const_cast<Bytef*>(input.data());
  stream.avail_in = available;
  stream.next_out = wanted == 0 ? nothing : room.data();
  stream.avail_out = wanted;
  const int result = inflate(&stream, Z_BLOCK);
  Step step{.consumed = available - stream.avail_in, .produced = wanted - stream.avail_out};
  noteLastBytes(input.first(step.consumed));

  switch (result) {
    case Z_OK:
    case Z_BUF_ERROR:  // nothing moved: it wants input or room
      if ((stream.data_type & (betweenBlocks | lastBlock)) == betweenBlocks) step.boundary = Boundary::block;
      if (inHeader_ && step.boundary == Boundary::block) {
        inHeader_ = false;
        inflateValidate(&stream, 0);
      }
      step.held = wanted == 0 && stream.avail_in > 0 && (stream.data_type & betweenBlocks) == 0;
      return step;
    case Z_STREAM_END:
      firstMember_ = false;
      if (raw_) {
        // This step may have moved nothing: the last block's end was seen before. It must not look like one that wants more.
        state_ = State::trailer;
        trailerLeft_ = memberTrailerBytes;
        const Step skipped = skipTrailer(input.subspan(step.consumed));
        step.consumed += skipped.consumed;
        step.boundary = skipped.boundary;
      } else {
        state_ = State::magic;
        step.boundary = Boundary::member;
      }
      return step;
    case Z_MEM_ERROR:
      throw std::bad_alloc();
    default:
      throw StreamError(stream.msg ? stream.msg : "inflate failed");
  }
}

Step GzipStream::skipTrailer(Bytes input) {
  Step step{.consumed = std::min<size_t>(input.size(), trailerLeft_)};
  trailerLeft_ -= step.consumed;
  if (trailerLeft_ == 0) {
    state_ = State::magic;
    step.boundary = Boundary::member;
  }
  return step;
}

void GzipStream::noteLastBytes(Bytes taken) {
  const size_t kept = taken.size() < lastBytes_.size() ? lastBytes_.size() - taken.size() : 0;
  const Bytes last = taken.last(lastBytes_.size() - kept);
  std::copy(lastBytes_.end() - static_cast<ptrdiff_t>(kept), lastBytes_.end(), lastBytes_.begin());
  std::copy(last.begin(), last.end(), lastBytes_.begin() + static_cast<ptrdiff_t>(kept));
}

GzipStream::Trailer GzipStream::trailer() const {
  const auto numberAt = [this](size_t at) {
    uint32_t number = 0;
    for (size_t i = 4; i-- > 0;) number = number << 8 | lastBytes_[at + i];
    return number;
  };
  return {.crc = numberAt(0), .length = numberAt(4)};
}

bool GzipStream::atEnd() const {
  return state_ == State::trailing || (state_ == State::magic && !firstMember_ && magicTaken_ == 0);
}

unsigned GzipStream::startBit() const {
  const unsigned unused = static_cast<unsigned>(inflater_.stream.data_type & unusedBitsMask);
  return unused == 0 ? 0 : 8 - unused;
}

size_t GzipStream::copyWindow(std::span<uint8_t, windowBytesMax> out) {
  uInt length = 0;
  if (inflateGetDictionary(&inflater_.stream, out.data(), &length) != Z_OK) throw std::bad_alloc();
  return length;
}

}  // namespace skim
