// Spans out of compressed bytes: decompression from a restart point, each span held against its digest.

#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "errors.h"
#include "gzip/layer-stream.h"
#include "gzip/span-record.h"

namespace skim {

struct SpanBytes {
  std::unique_ptr<uint8_t[]> bytes;
  size_t length = 0;
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
  void openStream();
  bool fillSpan();
  SpanBytes finishSpan();
  const SpanRecord& record() const { return records_[span_]; }
  void release(CodedError failure);
  [[noreturn]] void fail(const char* code, const std::string& clause);

  const Compression compression_;
  std::vector<SpanRecord> records_;
  std::vector<uint8_t> storedWindow_;
  std::unique_ptr<LayerStream> stream_;

  Bytes piece_;
  uint64_t position_;       // in the blob: the next byte that the stream takes
  size_t span_ = 0;         // number of the record that is being filled
  SpanBytes filling_;       // its bytes
  size_t filled_ = 0;       // how many of them are there
  std::optional<CodedError> failure_;
};

}  // namespace skim
