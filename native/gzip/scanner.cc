// One pass over a layer blob: inflate, hash, and note where decompression can restart.
//
// The blob comes in pieces of any length and leaves in pieces of any length, but what is noted about it must not depend on
// either: two hosts that index the same layer over different networks write the same archive. The rules for cutting are
// therefore rules about the streams alone:
//
//   1. A span is cut at the first restart point (block or member) at which it has at least spanBytes of output.
//   2. If it grows to 4 x spanBytes without meeting one, it is cut there. The next span has no restart point of its own.
//   3. Such a span that has no output yet when a restart point comes is moved there.
//   4. An empty span is never kept; a member that begins where an empty span stands takes it over.
//
// The first byte of the blob that a span does not need, compressedEnd, follows from where it was cut: at a block, the byte in which the
// next block begins or that behind the end-of-block code; at a member and at the end, that behind the last block, before the trailer.
// Rule 2 is the delicate one. zstd knows its blocks: such a span ends with the block that its last byte came from. But inflate()
// with no room left keeps decoding until it holds a symbol that needs room, and how far it gets depends on how much input it
// has. So a full span of gzip is not closed at once: the stream goes on without room, over as many pieces as it takes, until it
// holds output. What it has taken then is the same for all ways to cut the blob into pieces, and is enough, since it holds every bit
// that was decoded. If it meets a restart point on that way, rule 1 applies after all.
//
// Plain bytes can restart anywhere: a span is cut when it has spanBytes.
//
// Who wants the bytes and no index (a full unpack) asks for no spans: then nothing of the above happens, and ISA-L inflates.
//
// Three hashes run along: of the blob, of the uncompressed stream, of the open span. On CPUs without SHA instructions they cost more
// than inflating, so they run beside it on a thread of their own (side-thread.cc), on bytes that were just produced.

#include "gzip/scanner.h"

#include <algorithm>
#include <limits>
#include <string>

#include "gzip/isal-stream.h"
#include "gzip/plain-stream.h"
#include "gzip/zstd-stream.h"

namespace skim {
namespace {

// The most that is inflated before it is hashed: it stays in the second-level cache in between.
constexpr size_t stepBytes = 128u << 10;

}  // namespace

Scanner::Scanner(Compression compression, uint32_t spanBytes)
    : compression_(compression),
      spanBytes_(spanBytes),
      spanLimit_(spanBytes == 0 ? std::numeric_limits<uint64_t>::max()
                                : (compression == Compression::none ? 1 : 4) * uint64_t{spanBytes}) {
  if (spanBytes > 0) ledger_.emplace(side_);
  switch (compression) {
    case Compression::none:
      stream_ = std::make_unique<PlainStream>();
      break;
    case Compression::gzip: {
      if (!ledger_) {
        stream_ = std::make_unique<IsalStream>();
        break;
      }
      auto gzip = std::make_unique<GzipStream>();
      gzip_ = gzip.get();
      stream_ = std::move(gzip);
      break;
    }
    case Compression::zstd:
      stream_ = std::make_unique<ZstdStream>();
      break;
  }
}

void Scanner::write(Bytes compressed) {
  if (!piece_.empty()) throw misuse("the piece before is not used up");
  piece_ = compressed;
  pieceHashed_ = false;
}

size_t Scanner::read(std::span<uint8_t> output) {
  if (failure_) throw *failure_;
  // However this ends, piece and output are not ours any more behind it.
  struct Drain {
    SideThread& side;
    ~Drain() { side.drain(); }
  } drain{side_};
  try {
    if (!pieceHashed_) {
      side_.update(blobHash_, piece_);
      pieceHashed_ = true;
    }
    const size_t filled = inflateInto(output);
    side_.drain();
    side_.rethrow();
    return filled;
  } catch (const StreamError& error) {
    // A member before may have been wrong already: what is said must not depend on how far inflating has come meanwhile.
    fail(earlierFailure().value_or(error.what()));
  } catch (const std::bad_alloc&) {
    release(outOfMemory());
    throw *failure_;
  }
}

size_t Scanner::inflateInto(std::span<uint8_t> output) {
  size_t filled = 0;
  while (filled < output.size()) {
    const uint64_t spanRoom = ledger_ ? spanLimit_ - ledger_->openLength() : spanLimit_;
    const auto room = output.subspan(filled, std::min<uint64_t>({output.size() - filled, spanRoom, stepBytes}));
    const Step step = stream_->step(piece_, room);

    const Bytes taken = piece_.first(step.consumed);
    if (!taken.empty()) {
      piece_ = piece_.subspan(taken.size());
      position_ += taken.size();
      lastByte_ = taken.back();
      if (ledger_) ledger_->follow(taken);
    }
    if (step.produced > 0) {
      const Bytes made = room.first(step.produced);
      filled += made.size();
      uncompressedBytes_ += made.size();
      hashUncompressed(made);
      if (ledger_) ledger_->append(made);
    }

    if (step.boundary == Boundary::block) {
      if (ledger_) noteBlock();
    } else if (step.boundary == Boundary::member) {
      if (ledger_) noteMember();
    } else if (ledger_ && ledger_->openLength() == spanLimit_ && (step.held || stream_->outstandingBytes())) {
      noteFullSpan();
    } else if (step.consumed == 0 && step.produced == 0) {
      if (!piece_.empty()) throw StreamError("decompression stands still");
      return filled;
    }
  }
  return filled;
}

// A member's CRC takes a tenth of the time that inflating it does, where zlib makes it.
void Scanner::hashUncompressed(Bytes made) {
  side_.run(made.size(), [this, made] {
    uncompressedHash_.update(made);
    if (gzip_) memberCrc_ = static_cast<uint32_t>(crc32_z(memberCrc_, made.data(), made.size()));
  });
}

void Scanner::checkMember() {
  const auto length = static_cast<uint32_t>(uncompressedBytes_ - memberStart_);
  memberStart_ = uncompressedBytes_;
  side_.run(0, [this, trailer = gzip_->trailer(), length] {
    if (trailer.crc != memberCrc_) throw StreamError("incorrect data check");
    if (trailer.length != length) throw StreamError("incorrect length check");
    memberCrc_ = 0;
  });
}

std::optional<std::string> Scanner::earlierFailure() {
  side_.drain();
  try {
    side_.rethrow();
  } catch (const StreamError& error) {
    return error.what();
  } catch (const std::bad_alloc&) {
  }
  return std::nullopt;
}

void Scanner::noteBlock() {
  const bool due = ledger_->openLength() >= spanBytes_;
  const bool better = ledger_->openLength() == 0 && ledger_->openRestart() == Restart::none;
  if (!due && !better) return;
  std::vector<uint8_t> window(windowBytesMax);
  window.resize(gzip_->copyWindow(std::span<uint8_t, windowBytesMax>(window)));
  const unsigned startBit = gzip_->startBit();
  ledger_->cutAtBlock(position_, startBit == 0 ? position_ : position_ - 1, startBit, lastByte_, std::move(window));
}

void Scanner::noteMember() {
  if (gzip_) checkMember();
  if (uncompressedBytes_ > memberOffset_) {
    memberOffset_ = uncompressedBytes_;
    dataEnd_ = position_ - stream_->trailerBytes();
  }
  if (ledger_->openLength() >= spanBytes_ || ledger_->openLength() == 0) ledger_->cutAtMember(dataEnd_, position_);
  ledger_->endMember();
}

void Scanner::noteFullSpan() {
  if (compression_ == Compression::none)
    ledger_->cutAtMember(position_, position_);
  else
    ledger_->cutAnywhere(position_ + stream_->outstandingBytes().value_or(0));
}

ScanResult Scanner::finish() {
  if (failure_) throw *failure_;
  if (!piece_.empty()) throw misuse("the piece before is not used up");
  if (!stream_->atEnd()) fail("the data ends early");
  if (ledger_) ledger_->finish(compression_ == Compression::none ? position_ : dataEnd_);
  side_.drain();
  side_.rethrow();
  ScanResult result{
      .blobSha256 = blobHash_.finish(),
      .uncompressedSha256 = uncompressedHash_.finish(),
      .compressedBytes = position_,
      .uncompressedBytes = uncompressedBytes_,
      .trailingBytes = stream_->trailingBytes(),
      .spanRecords = ledger_ ? ledger_->encodeRecords() : std::vector<uint8_t>(),
      .windows = ledger_ ? ledger_->takeWindows() : std::vector<uint8_t>(),
  };
  release(misuse("the scan is finished"));
  return result;
}

// Nothing but `failure` is left to give: what takes memory or a thread need not wait for the garbage collector.
void Scanner::release(CodedError failure) {
  failure_ = std::move(failure);
  piece_ = {};
  side_.stop();
  stream_.reset();
}

void Scanner::fail(const std::string& clause) {
  static constexpr const char* names[] = {"plain", "gzip", "zstd"};
  release(CodedError("LAYER_CORRUPT", std::string("the ") + names[static_cast<size_t>(compression_)] +
                                          " stream is damaged near byte " + std::to_string(position_) + ": " + clause));
  throw *failure_;
}

}  // namespace skim
