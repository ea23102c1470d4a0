// ISA-L (Debian package libisal-dev; its igzip_lib.h is the reference) decodes several symbols a step with SIMD.
//
// It is given deflate streams and trailers, and compares CRC-32 and length. Headers are read here: 2.30 miscounts their CRC where it gets them in
// pieces. Between members the rules are those of gzip-stream.cc: the two magic bytes are looked at, and what is no header ends the data.

#include "gzip/isal-stream.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace skim {
namespace {

constexpr uint8_t magicBytes[2] = {0x1f, 0x8b};

// Behind the magic: method, flags, four bytes of time, extra flags, system.
constexpr unsigned fixedBytes = 8;
constexpr uint8_t methodDeflate = 8;
constexpr uint8_t flagHeaderCrc = 2;
constexpr uint8_t flagExtra = 4;
constexpr uint8_t flagName = 8;
constexpr uint8_t flagComment = 16;
constexpr uint8_t flagsReserved = 0xe0;

// ISA-L counts in 32 bits.
constexpr size_t stepBytesMax = 1u << 30;

// In zlib's words, where it has some.
const char* sentenceOf(int result) {
  switch (result) {
    case ISAL_INVALID_BLOCK:
      return "invalid block type or code lengths";
    case ISAL_INVALID_SYMBOL:
      return "invalid code";
    case ISAL_INVALID_LOOKBACK:
      return "invalid distance too far back";
    case ISAL_INCORRECT_CHECKSUM:
      return "incorrect data check";
    default:
      return "inflate failed";
  }
}

}  // namespace

IsalStream::IsalStream() { isal_inflate_init(&inflate_); }

Step IsalStream::step(Bytes input, std::span<uint8_t> room) {
  switch (state_) {
    case State::magic:
      return input.empty() ? Step{} : takeMagic(input[0]);
    case State::inflate:
      return inflateSome(input, room);
    case State::trailing:
      trailing_ += input.size();
      return {.consumed = input.size()};
    default:
      return takeHeader(input);
  }
}

bool IsalStream::atEnd() const {
  return state_ == State::trailing || (state_ == State::magic && !firstMember_ && taken_ == 0);
}

Step IsalStream::takeMagic(uint8_t byte) {
  if (byte != magicBytes[taken_]) {
    if (firstMember_) throw StreamError("no gzip header");
    state_ = State::trailing;
    trailing_ = taken_ + 1;
    return {.consumed = 1};
  }
  if (++taken_ == 2) {
    headerCrc_ = crc32_gzip_refl(0, magicBytes, 2);
    flags_ = 0;
    enter(State::fixed, fixedBytes);
  }
  return {.consumed = 1};
}

Step IsalStream::takeHeader(Bytes input) {
  size_t at = 0;
  while (at < input.size() && state_ != State::inflate) takeHeaderByte(input[at++]);
  return {.consumed = at};
}

void IsalStream::takeHeaderByte(uint8_t byte) {
  if (state_ != State::headerCrc) headerCrc_ = crc32_gzip_refl(headerCrc_, &byte, 1);
  number_ = static_cast<uint16_t>(number_ >> 8 | byte << 8);
  if (state_ == State::fixed && taken_ == 0 && byte != methodDeflate) throw StreamError("unknown compression method");
  if (state_ == State::fixed && taken_ == 1) flags_ = byte;
  if ((flags_ & flagsReserved) != 0) throw StreamError("unknown header flags set");
  taken_++;
  const bool isText = state_ == State::name || state_ == State::comment;
  if (isText ? byte != 0 : taken_ < wanted_) return;

  // The part is complete: on to the next one that is there.
  switch (state_) {
    case State::fixed:
      if ((flags_ & flagExtra) != 0) return enter(State::extraLength, 2);
      [[fallthrough]];
    case State::extraLength:
      if (state_ == State::extraLength && number_ > 0) return enter(State::extra, number_);
      [[fallthrough]];
    case State::extra:
      if ((flags_ & flagName) != 0) return enter(State::name, 0);
      [[fallthrough]];
    case State::name:
      if ((flags_ & flagComment) != 0) return enter(State::comment, 0);
      [[fallthrough]];
    case State::comment:
      if ((flags_ & flagHeaderCrc) != 0) return enter(State::headerCrc, 2);
      [[fallthrough]];
    default:
      if (state_ == State::headerCrc && number_ != (headerCrc_ & 0xffff)) throw StreamError("header crc mismatch");
      isal_inflate_reset(&inflate_);
      inflate_.crc_flag = ISAL_GZIP_NO_HDR_VER;
      enter(State::inflate, 0);
  }
}

void IsalStream::enter(State state, unsigned bytes) {
  state_ = state;
  taken_ = 0;
  wanted_ = bytes;
}

Step IsalStream::inflateSome(Bytes input, std::span<uint8_t> room) {
  // It computes with its pointers, also where there is nothing behind them.
  static uint8_t nothing[1];
  const auto available = static_cast<uint32_t>(std::min(input.size(), stepBytesMax));
  const auto wanted = static_cast<uint32_t>(std::min(room.size(), stepBytesMax));
  inflate_.next_in = available == 0 ? nothing : const_cast<uint8_t*>(input.data());
  inflate_.avail_in = available;
  inflate_.next_out = wanted == 0 ? nothing : room.data();
  inflate_.avail_out = wanted;
  const int result = isal_inflate(&inflate_);
  if (result < 0) throw StreamError(sentenceOf(result));
  Step step{.consumed = available - inflate_.avail_in, .produced = wanted - inflate_.avail_out};
  if (inflate_.block_state == ISAL_BLOCK_FINISH) {
    firstMember_ = false;
    enter(State::magic, 2);
    step.boundary = Boundary::member;
  }
  return step;
}

}  // namespace skim
