// One pass over a layer blob: inflate, hash, and note where decompression can restart.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "errors.h"
#include "gzip/gzip-stream.h"
#include "gzip/layer-stream.h"
#include "gzip/sha256.h"
#include "gzip/side-thread.h"
#include "gzip/span-ledger.h"

namespace skim {

struct ScanResult {
  Sha256Digest blobSha256;
  Sha256Digest uncompressedSha256;
  uint64_t compressedBytes;
  uint64_t uncompressedBytes;
  uint64_t trailingBytes;
  std::vector<uint8_t> spanRecords;
  std::vector<uint8_t> windows;
};

class Scanner {
 public:
  // Spans of fewer bytes would be mostly window; the longest, 4 x spanBytesMax, must fit a record.
  static constexpr uint32_t spanBytesMin = 1u << 10;
  static constexpr uint32_t spanBytesMax = spanLengthMax / 4;

  // `spanBytes` 0: hashes only, no spans; restart points are not looked for, which takes half the time.
  Scanner(Compression compression, uint32_t spanBytes);

  // Takes the next piece; the one before is used up. `compressed` must stay as it is until it is used up.
  void write(Bytes compressed);

  // Fills `output`; returns how many bytes it got, 0 when the piece is used up. Throws LAYER_CORRUPT, and ever after.
  size_t read(std::span<uint8_t> output);

  // Throws LAYER_CORRUPT where the stream is not at its end. No further call is possible.
  ScanResult finish();

 private:
  size_t inflateInto(std::span<uint8_t> output);
  void hashUncompressed(Bytes made);
  void checkMember();
  std::optional<std::string> earlierFailure();
  void noteBlock();
  void noteMember();
  void noteFullSpan();
  void release(CodedError failure);
  [[noreturn]] void fail(const std::string& clause);

  const Compression compression_;
  const uint32_t spanBytes_;
  const uint64_t spanLimit_;
  std::unique_ptr<LayerStream> stream_;
  GzipStream* gzip_ = nullptr;  // stream_ where it is one, and spans are noted

  Bytes piece_;
  bool pieceHashed_ = true;
  uint64_t position_ = 0;  // bytes of the blob that the stream has taken
  uint8_t lastByte_ = 0;   // the last of them
  uint64_t uncompressedBytes_ = 0;
  uint64_t dataEnd_ = 0;   // behind the last byte of the last member that gave output, without its trailer
  uint64_t memberOffset_ = 0;  // uncompressed bytes up to there
  Sha256 blobHash_;
  Sha256 uncompressedHash_;
  uint32_t memberCrc_ = 0;  // the side thread's, as the hashes are
  uint64_t memberStart_ = 0;  // uncompressed bytes of the members before
  std::optional<SpanLedger> ledger_;  // absent where no spans are noted
  SideThread side_;  // behind all that it works on
  std::optional<CodedError> failure_;  // what every call throws from now on
};

}  // namespace skim
