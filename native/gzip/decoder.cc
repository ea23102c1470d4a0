// Spans out of compressed bytes: decompression from a restart point, each span held against its digest.
//
// The records say where the first span begins in the blob, how long each span is uncompressed and what it hashes to. Everything
// between follows from the stream: decompression starts at the restart point of the first span and simply goes on, through
// blocks, member ends and headers, and each time a span's length has come out, the span is done. Restart points of
// later spans are not looked at; they are where somebody else would have begun.
//
// Input may come in pieces of any length and go beyond the last span (a fetch is rounded up). They stay where they came to until they are used up, and are taken up to the last
// record's compressedEnd and no further. If the spans are not complete by then, more input would not help: the record is wrong, or
// the bytes are.
//
// That is one way. The other is for spans that begin and end with a deflate block, which is nearly all of them in gzip layers: they are inflated by themselves, when all of their bytes
// have come, by a library that does so in half the time (whole-inflate.h). Where that does not come to the digest, the stream begins at this span, and goes on to the end.
//
// Nothing here is trusted. Records come from an archive that anybody may have written, and bytes from a registry. Lengths are bounded
// before memory is taken for them; the stream never gets more room than the span has left; a digest that matches is the only way
// out for a span. The window needs no digest of its own, since a wrong one cannot yield the right span.

#include "gzip/decoder.h"

#include <algorithm>
#include <string>

#include "gzip/checkpoint-window.h"
#include "gzip/gzip-stream.h"
#include "gzip/plain-stream.h"
#include "gzip/sha256.h"
#include "gzip/zstd-stream.h"

namespace skim {

namespace {

// A whole span takes as much memory as it has bytes, and once more for those it is made of.
constexpr uint32_t wholeSpanMax = 8u << 20;

// Two spans may share a byte, and a stream may have taken it, and no more.
constexpr uint64_t sharedBytesMax = 1;

// More than deflate makes of bytes that it cannot compress.
constexpr uint64_t compressedMax(uint64_t length) { return length + length / 8 + (64 << 10); }

}  // namespace

Decoder::Decoder(Compression compression, Bytes spanRecords, Bytes window)
    : compression_(compression),
      records_(decodeSpanRun(spanRecords, compression)),
      window_(window.begin(), window.end()),
      inputPosition_(records_.front().compressedStart) {
  if (window.size() != records_.front().windowStored)
    fail("SPAN_CORRUPT", "its stored window has " + std::to_string(window.size()) + " bytes instead of " +
                             std::to_string(records_.front().windowStored));
}

void Decoder::write(Bytes compressed) {
  if (failure_ || span_ == records_.size()) {
    released_++;
    return;
  }
  if (way_ == Way::undecided) chooseWay();
  // One of which nothing is wanted has its place too: they are let go of in order.
  input_.push_back(compressed.first(static_cast<size_t>(std::min<uint64_t>(compressed.size(), records_.back().compressedEnd - inputEnd()))));
  inputBytes_ += input_.back().size();
  if (!input_.back().empty()) isStarved_ = false;
  dropTaken();
}

bool Decoder::isReady() {
  if (failure_) return true;
  if (span_ == records_.size()) return false;
  if (way_ == Way::undecided) chooseWay();
  return way_ == Way::whole ? hasAllOfSpan() : !isStarved_;
}

std::optional<SpanBytes> Decoder::next() {
  if (failure_) throw *failure_;
  if (span_ == records_.size()) return std::nullopt;
  try {
    openWay();
    if (!(way_ == Way::whole ? fillWhole() : fillFromStream())) return std::nullopt;
    return finishSpan();
  } catch (const StreamError& error) {
    fail("SPAN_CORRUPT", "at byte " + std::to_string(position()) + " of the blob: " + error.what());
  } catch (const std::bad_alloc&) {
    release(outOfMemory());
    throw *failure_;
  }
}

// Costs nothing: what takes time is for `openWay`.
void Decoder::chooseWay() {
  const SpanRecord& span = record();
  const bool endsWithBlock = span_ + 1 == records_.size() || records_[span_ + 1].restart != Restart::none;
  const bool canBeWhole = !streamOnly_ && span.restart == Restart::block && endsWithBlock && span.uncompressedLength <= wholeSpanMax &&
                          span.compressedEnd - span.compressedStart <= compressedMax(span.uncompressedLength) &&
                          (isWindowStored_ || window_.size() >= span.windowLength) &&
                          position() <= span.compressedStart + sharedBytesMax;
  way_ = canBeWhole ? Way::whole : Way::stream;
  if (!canBeWhole) return;
  stream_.reset();
  taken_ = span.compressedStart - inputPosition_;
}

void Decoder::openWay() {
  if (isWindowStored_ && record().restart == Restart::block) window_ = inflateWindow(window_, record().windowLength);
  isWindowStored_ = false;
  if (way_ == Way::undecided) chooseWay();
  if (way_ == Way::stream && !stream_) openStream();
  if (way_ == Way::whole && !whole_) whole_ = std::make_unique<WholeInflate>();
}

// At the span that is next.
void Decoder::openStream() {
  const SpanRecord& span = record();
  if (position() > span.compressedStart + sharedBytesMax) throw StreamError("it begins within the span before");
  taken_ = span.compressedStart - inputPosition_;
  switch (compression_) {
    case Compression::none:
      stream_ = std::make_unique<PlainStream>();
      break;
    case Compression::gzip:
      if (span.restart == Restart::block)
        stream_ = std::make_unique<GzipStream>(span.startBit, windowOf(span));
      else
        stream_ = std::make_unique<GzipStream>();
      break;
    case Compression::zstd:
      stream_ = std::make_unique<ZstdStream>();
      break;
  }
}

// True when the span is complete, false when it needs more input.
bool Decoder::fillFromStream() {
  const size_t length = record().uncompressedLength;
  if (!filling_) filling_ = SpanBytes(length, 0);
  while (filled_ < length) {
    const Bytes input = inputAt(taken_);
    const Step step = stream_->step(input, filling_.bytes().subspan(filled_));
    taken_ += step.consumed;
    dropTaken();
    filled_ += step.produced;
    if (stream_->trailingBytes() > 0) throw StreamError("the compressed data ends within the span");
    if (step.consumed > 0 || step.produced > 0 || step.boundary != Boundary::none) continue;
    if (!input.empty()) throw StreamError("decompression stands still");
    if (inputEnd() == records_.back().compressedEnd) throw StreamError("the span needs more bytes than its record says");
    isStarved_ = true;
    return false;
  }
  if (!hasDigest()) fail("SPAN_DIGEST", "its bytes do not have the digest of its record");
  return true;
}

bool Decoder::fillWhole() {
  if (!hasAllOfSpan()) return false;
  const SpanRecord& span = record();
  filling_ = SpanBytes(span.uncompressedLength, span.windowLength);
  const uint64_t end = taken_ + (span.compressedEnd - span.compressedStart);
  whole_->inflate(windowOf(span), span.startBit, inputBetween(taken_, end), filling_.room());
  if (hasDigest()) {
    taken_ = end;
    return true;
  }
  // A member may end within it, or the last block go on behind it. Or the bytes are wrong, and then the stream says how.
  streamOnly_ = true;
  way_ = Way::stream;
  filling_ = {};
  openStream();
  return fillFromStream();
}

bool Decoder::hasAllOfSpan() const { return inputEnd() >= record().compressedEnd; }

// What there is in one piece from byte `offset` of the input on.
Bytes Decoder::inputAt(uint64_t offset) const {
  for (const Bytes& piece : input_) {
    if (offset < piece.size()) return piece.subspan(static_cast<size_t>(offset));
    offset -= piece.size();
  }
  return {};
}

std::vector<Bytes> Decoder::inputBetween(uint64_t begin, uint64_t end) const {
  std::vector<Bytes> parts;
  uint64_t position = 0;
  for (const Bytes& piece : input_) {
    const uint64_t from = std::max(begin, position);
    const uint64_t to = std::min(end, position + piece.size());
    if (from < to) parts.push_back(piece.subspan(static_cast<size_t>(from - position), static_cast<size_t>(to - from)));
    position += piece.size();
  }
  return parts;
}

// Pieces of which all is taken but for the last byte, which the next span may begin with.
void Decoder::dropTaken() {
  const uint64_t kept = std::min(taken_, sharedBytesMax);
  while (!input_.empty() && input_.front().size() <= taken_ - kept) {
    const size_t dropped = input_.front().size();
    input_.pop_front();
    released_++;
    inputPosition_ += dropped;
    inputBytes_ -= dropped;
    taken_ -= dropped;
  }
}

void Decoder::dropAll() {
  released_ += input_.size();
  input_.clear();
  inputBytes_ = 0;
}

bool Decoder::hasDigest() const {
  Sha256 hash;
  hash.update(filling_.bytes());
  return hash.finish() == record().sha256;
}

SpanBytes Decoder::finishSpan() {
  SpanBytes done = std::move(filling_);
  filling_ = {};
  filled_ = 0;
  way_ = Way::undecided;
  span_++;
  if (span_ == records_.size()) {
    stream_.reset();
    whole_.reset();
    dropAll();
  } else {
    keepWindow(done.bytes());
    dropTaken();
  }
  return done;
}

// What the next span may refer to: the end of this one, and of what was before.
void Decoder::keepWindow(std::span<const uint8_t> done) {
  if (streamOnly_ || compression_ != Compression::gzip) return;
  const auto last = done.last(std::min<size_t>(done.size(), windowBytesMax));
  const size_t kept = std::min(window_.size(), windowBytesMax - last.size());
  window_.erase(window_.begin(), window_.end() - static_cast<ptrdiff_t>(kept));
  window_.insert(window_.end(), last.begin(), last.end());
}

Bytes Decoder::windowOf(const SpanRecord& span) const {
  if (window_.size() < span.windowLength) throw StreamError("its window is longer than what is before it");
  return Bytes(window_).last(span.windowLength);
}

// Nothing but `failure` is left to give: what takes memory need not wait for the garbage collector.
void Decoder::release(CodedError failure) {
  failure_ = std::move(failure);
  stream_.reset();
  whole_.reset();
  dropAll();
  filling_ = {};
}

void Decoder::fail(const char* code, const std::string& clause) {
  release(CodedError(code, "span at offset " + std::to_string(record().uncompressedOffset) + ": " + clause));
  throw *failure_;
}

}  // namespace skim
