// ISA-L (Debian package libisal-dev; its igzip_lib.h is the reference) decodes several symbols a step with SIMD.
//
// It reads a member with its header and trailer, and compares CRC-32 and length. Between members the rules are those of gzip-stream.cc: the two
// magic bytes are looked at here, and what is no header ends the data.

#include "gzip/isal-stream.h"

#include <algorithm>
#include <limits>

namespace skim {
namespace {

constexpr uint8_t magicBytes[2] = {0x1f, 0x8b};

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
    case ISAL_INVALID_WRAPPER:
      return "incorrect header check";
    case ISAL_UNSUPPORTED_METHOD:
      return "unknown compression method";
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
  }
  return {};
}

bool IsalStream::atEnd() const {
  return state_ == State::trailing || (state_ == State::magic && !firstMember_ && magicTaken_ == 0);
}

Step IsalStream::takeMagic(uint8_t byte) {
  if (byte != magicBytes[magicTaken_]) {
    if (firstMember_) throw StreamError("no gzip header");
    state_ = State::trailing;
    trailing_ = magicTaken_ + 1;
    return {.consumed = 1};
  }
  if (++magicTaken_ < 2) return {.consumed = 1};

  magicTaken_ = 0;
  isal_inflate_reset(&inflate_);
  inflate_.crc_flag = ISAL_GZIP;
  state_ = State::inflate;
  inflateSome(magicBytes, {});
  return {.consumed = 1};
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
    state_ = State::magic;
    step.boundary = Boundary::member;
  }
  return step;
}

}  // namespace skim
