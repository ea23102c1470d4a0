// Spans out of compressed bytes: decompression from a restart point, each span held against its digest.
//
// The records say where the first span begins in the blob, how long each span is uncompressed and what it hashes to. Everything
// between follows from the stream: decompression starts at the restart point of the first span and simply goes on, through
// blocks, member ends and headers, and each time a span's length has come out, the span is done. Restart points of
// later spans are not looked at; they are where somebody else would have begun.
//
// Input may come in pieces of any length and go beyond the last span (a fetch is rounded up). It is taken up to the last
// record's compressedEnd and no further. If the spans are not complete by then, more input would not help: the record is wrong, or
// the bytes are.
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

Decoder::Decoder(Compression compression, Bytes spanRecords, Bytes window)
    : compression_(compression),
      records_(decodeSpanRun(spanRecords, compression)),
      storedWindow_(window.begin(), window.end()),
      position_(records_.front().compressedStart) {
  if (window.size() != records_.front().windowStored)
    fail("SPAN_CORRUPT", "its stored window has " + std::to_string(window.size()) + " bytes instead of " +
                             std::to_string(records_.front().windowStored));
}

void Decoder::write(Bytes compressed) {
  if (!piece_.empty()) throw misuse("the piece before is not used up");
  const uint64_t wanted = span_ == records_.size() ? 0 : records_.back().compressedEnd - position_;
  piece_ = compressed.first(static_cast<size_t>(std::min<uint64_t>(compressed.size(), wanted)));
}

std::optional<SpanBytes> Decoder::next() {
  if (failure_) throw *failure_;
  if (span_ == records_.size()) return std::nullopt;
  try {
    if (!stream_) openStream();
    if (!fillSpan()) return std::nullopt;
  } catch (const StreamError& error) {
    fail("SPAN_CORRUPT", "at byte " + std::to_string(position_) + " of the blob: " + error.what());
  } catch (const std::bad_alloc&) {
    release(outOfMemory());
    throw *failure_;
  }
  return finishSpan();
}

void Decoder::openStream() {
  const SpanRecord& first = records_.front();
  switch (compression_) {
    case Compression::none:
      stream_ = std::make_unique<PlainStream>();
      break;
    case Compression::gzip:
      if (first.restart == Restart::block)
        stream_ = std::make_unique<GzipStream>(first.startBit, inflateWindow(storedWindow_, first.windowLength));
      else
        stream_ = std::make_unique<GzipStream>(GzipStream::Checksums::skip);
      break;
    case Compression::zstd:
      stream_ = std::make_unique<ZstdStream>();
      break;
  }
}

// True when the span is complete, false when it needs more input.
bool Decoder::fillSpan() {
  const size_t length = record().uncompressedLength;
  if (!filling_.bytes) filling_ = {std::make_unique_for_overwrite<uint8_t[]>(length), length};
  while (filled_ < length) {
    const Step step = stream_->step(piece_, {filling_.bytes.get() + filled_, length - filled_});
    piece_ = piece_.subspan(step.consumed);
    position_ += step.consumed;
    filled_ += step.produced;
    if (stream_->trailingBytes() > 0) throw StreamError("the compressed data ends within the span");
    if (step.consumed > 0 || step.produced > 0 || step.boundary != Boundary::none) continue;
    if (!piece_.empty()) throw StreamError("decompression stands still");
    if (position_ == records_.back().compressedEnd) throw StreamError("the span needs more bytes than its record says");
    return false;
  }
  return true;
}

SpanBytes Decoder::finishSpan() {
  Sha256 hash;
  hash.update({filling_.bytes.get(), filling_.length});
  if (hash.finish() != record().sha256) fail("SPAN_DIGEST", "its bytes do not have the digest of its record");
  SpanBytes done = std::move(filling_);
  filling_ = {};
  filled_ = 0;
  span_++;
  if (span_ == records_.size()) {
    stream_.reset();
    piece_ = {};
  }
  return done;
}

// Nothing but `failure` is left to give: what takes memory need not wait for the garbage collector.
void Decoder::release(CodedError failure) {
  failure_ = std::move(failure);
  piece_ = {};
  stream_.reset();
  filling_ = {};
}

void Decoder::fail(const char* code, const std::string& clause) {
  release(CodedError(code, "span at offset " + std::to_string(record().uncompressedOffset) + ": " + clause));
  throw *failure_;
}

}  // namespace skim
