// Spans out of compressed bytes: decompression from a restart point, each span held against its digest.

#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "errors.h"
#include "gzip/layer-stream.h"
#include "gzip/span-record.h"
#include "gzip/whole-inflate.h"

namespace skim {

struct SpanBytes {
  std::unique_ptr<uint8_t[]> memory;
  size_t start = 0;  // of the span in it; what is before is nobody's business
  size_t length = 0;

  std::span<uint8_t> bytes() const { return {memory.get() + start, length}; }
};

class Decoder {
 public:
  // For the spans of `spanRecords`, the first of which has the stored window `window`. Throws SPAN_CORRUPT for records that cannot be.
  Decoder(Compression compression, Bytes spanRecords, Bytes window);

  // Takes the next piece; the one before is used up. `compressed` must stay as it is until it is used up.
  void write(Bytes compressed);

  // The next span, or nothing: when more input is needed, and after the last span. Throws SPAN_CORRUPT or SPAN_DIGEST, and ever after.
  std::optional<SpanBytes> next();

 private:
  // How the span that is next is inflated: as its bytes come, or at once when all of them have come.
  enum class Way { undecided, stream, whole };

  Way decideWay();
  void openStream();
  bool fillFromStream();
  bool fillWhole();
  bool gather();
  void takeBetween();
  void fillFromStreamInstead();
  bool hasDigest() const;
  SpanBytes finishSpan();
  void keepWindow(std::span<const uint8_t> done);
  Bytes windowOf(const SpanRecord& span) const;
  const SpanRecord& record() const { return records_[span_]; }
  void release(CodedError failure);
  [[noreturn]] void fail(const char* code, const std::string& clause);

  const Compression compression_;
  std::vector<SpanRecord> records_;
  std::vector<uint8_t> window_;  // up to 32 KiB before the span that is next; of the first at first as it is stored
  std::unique_ptr<LayerStream> stream_;
  std::unique_ptr<WholeInflate> whole_;
  Way way_ = Way::undecided;
  bool streamOnly_ = false;  // something here is not as it would have to be for whole spans

  Bytes piece_;
  uint64_t position_;               // in the blob: the next byte that is taken
  uint8_t lastByte_ = 0;            // the one before it
  uint64_t skip_ = 0;               // bytes that belong to no span
  std::vector<uint8_t> gathered_;   // compressed bytes of a span that is not complete yet
  Bytes again_;                     // of them, what a stream takes before the piece; position_ is that of the first
  size_t span_ = 0;         // number of the record that is being filled
  SpanBytes filling_;       // its bytes
  size_t filled_ = 0;       // how many of them are there
  std::optional<CodedError> failure_;
};

}  // namespace skim
