// Span records: how a place where decompression can restart looks in an archive (FORMAT.md, "spans").

#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace skim {

using Bytes = std::span<const uint8_t>;

// The numbers are those of the archive.
enum class Compression : uint8_t { none = 0, gzip = 1, zstd = 2 };
enum class Restart : uint8_t { none = 0, member = 1, block = 2 };

inline constexpr size_t spanRecordBytes = 80;
inline constexpr uint32_t spanLengthMax = 64u << 20;
inline constexpr uint32_t windowBytesMax = 32u << 10;
inline constexpr uint32_t windowStoredMax = 2 * windowBytesMax;

struct SpanRecord {
  uint64_t uncompressedOffset = 0;
  uint32_t uncompressedLength = 0;
  Restart restart = Restart::none;
  uint8_t startBit = 0;
  uint64_t compressedStart = 0;
  uint64_t compressedEnd = 0;
  uint64_t windowOffset = 0;
  uint32_t windowStored = 0;
  uint32_t windowLength = 0;
  std::array<uint8_t, 32> sha256{};
};

void encodeSpanRecord(const SpanRecord& record, std::span<uint8_t, spanRecordBytes> out);

// The records of consecutive spans, the first of which is a restart point. Throws SPAN_CORRUPT, naming the record and the rule,
// where they break one that FORMAT.md states and that can be seen without the rest of the archive.
std::vector<SpanRecord> decodeSpanRun(Bytes bytes, Compression compression);

}  // namespace skim
