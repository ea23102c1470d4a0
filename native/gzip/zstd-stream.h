// Zstandard frames, one after the other.

#pragma once

#include <zstd.h>

#include <array>
#include <memory>

#include "gzip/layer-stream.h"

namespace skim {

class ZstdStream final : public LayerStream {
 public:
  ZstdStream();

  Step step(Bytes input, std::span<uint8_t> room) override;
  bool atEnd() const override { return part_ == Part::magic && fieldTaken_ == 0 && !firstFrame_; }
  uint64_t trailerBytes() const override { return checksum_ ? checksumBytes : 0; }
  std::optional<uint64_t> outstandingBytes() const override { return part_ == Part::block ? partLeft_ : 0; }

 private:
  static constexpr uint64_t checksumBytes = 4;

  // What the next byte belongs to. All but skippable and block are fields of a known length.
  enum class Part { magic, skippableLength, skippable, descriptor, header, blockHeader, block, checksum };

  Step takeField(Bytes input);
  Boundary fieldComplete();
  Boundary blockComplete(size_t result);
  Boundary frameComplete();
  Step skip(Bytes input);
  Step decodeBlock(Bytes input, std::span<uint8_t> room);

  void expectField(Part part, size_t length);
  size_t decompress(ZSTD_inBuffer& in, ZSTD_outBuffer& out);
  size_t feedField();

  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_DCtx, Free> context_;

  Part part_ = Part::magic;
  std::array<uint8_t, 18> field_{};  // magic, descriptor and header are collected behind each other: 18 bytes at most
  size_t fieldTaken_ = 0;
  size_t fieldEnd_ = 4;
  uint64_t partLeft_ = 0;  // bytes of the block or of the skippable frame that are still to come
  bool lastBlock_ = false;
  bool checksum_ = false;   // the frame ends with one
  bool drained_ = true;     // the library holds no output back
  bool firstFrame_ = true;  // no frame has ended yet
};

}  // namespace skim
