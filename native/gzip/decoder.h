// Spans out of compressed bytes: decompression from a restart point, each span held against its digest.

#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "errors.h"
#include "gzip/layer-stream.h"
#include "gzip/span-bytes.h"
#include "gzip/span-record.h"
#include "gzip/whole-inflate.h"

namespace skim {

class Decoder {
 public:
  // For the spans of `spanRecords`, the first of which has the stored window `window`. Throws SPAN_CORRUPT for records that cannot be.
  Decoder(Compression compression, Bytes spanRecords, Bytes window);

  // Takes the next piece, of any length. It stays where it is, unchanged, until the decoder has let go of it.
  void write(Bytes compressed);

  // How many pieces it has let go of since it was asked last, in the order in which they came.
  size_t takeReleased() { return std::exchange(released_, 0); }

  // Whether `next` has what it needs for a span, as far as can be told without doing its work. True too where it fails.
  bool isReady();

  // The next span, or nothing: when more input is needed, and after the last span. Throws SPAN_CORRUPT or SPAN_DIGEST, and ever after.
  std::optional<SpanBytes> next();

 private:
  // How the span that is next is inflated: as its bytes come, or at once when all of them have come.
  enum class Way { undecided, stream, whole };

  void chooseWay();
  void openWay();
  void openStream();
  bool fillFromStream();
  bool fillWhole();
  bool hasAllOfSpan() const;
  Bytes inputAt(uint64_t offset) const;
  std::vector<Bytes> inputBetween(uint64_t begin, uint64_t end) const;
  void dropTaken();
  void dropAll();
  bool hasDigest() const;
  SpanBytes finishSpan();
  void keepWindow(std::span<const uint8_t> done);
  Bytes windowOf(const SpanRecord& span) const;
  const SpanRecord& record() const { return records_[span_]; }
  uint64_t position() const { return inputPosition_ + taken_; }
  uint64_t inputEnd() const { return inputPosition_ + inputBytes_; }
  void release(CodedError failure);
  [[noreturn]] void fail(const char* code, const std::string& clause);

  const Compression compression_;
  std::vector<SpanRecord> records_;
  std::vector<uint8_t> window_;  // up to 32 KiB before the span that is next; of the first at first as it is stored
  bool isWindowStored_ = true;
  std::unique_ptr<LayerStream> stream_;
  std::unique_ptr<WholeInflate> whole_;
  Way way_ = Way::undecided;
  bool isStarved_ = true;    // the stream has used up what there is
  bool streamOnly_ = false;  // something here is not as it would have to be for whole spans

  uint64_t inputPosition_;  // in the blob, of the first byte of `input_`
  std::deque<Bytes> input_; // compressed bytes: pieces that have come, from the one with the last byte that was taken on
  uint64_t inputBytes_ = 0; // of all of them
  uint64_t taken_ = 0;      // of `input_`, or beyond it: bytes between two spans that have not come yet
  size_t released_ = 0;
  size_t span_ = 0;         // number of the record that is being filled
  SpanBytes filling_;       // its bytes
  size_t filled_ = 0;       // how many of them are there
  std::optional<CodedError> failure_;
};

}  // namespace skim
