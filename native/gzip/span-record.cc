// Span records, written and read. Reading trusts nothing: archives come from anywhere.

#include "gzip/span-record.h"

#include <string>

#include "errors.h"

namespace skim {
namespace {

// Offsets cross to JavaScript as numbers.
constexpr uint64_t offsetMax = (uint64_t{1} << 53) - 1;

template <typename Integer>
void put(uint8_t* at, Integer value) {
  for (size_t i = 0; i < sizeof(Integer); i++) at[i] = static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i));
}

template <typename Integer>
Integer get(const uint8_t* at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(Integer); i++) value |= static_cast<uint64_t>(at[i]) << (8 * i);
  return static_cast<Integer>(value);
}

// The rule that `record` breaks on its own, or nullptr.
const char* brokenRule(const SpanRecord& record, const uint8_t* raw, Compression compression) {
  if (raw[12] > 2) return "restart is none of 0, 1, 2";
  if (get<uint16_t>(raw + 14) != 0) return "reserved bytes are not zero";
  if (record.uncompressedLength == 0 || record.uncompressedLength > spanLengthMax) return "its length is not 1 to 64 MiB";
  if (record.uncompressedOffset > offsetMax - record.uncompressedLength) return "its offset is beyond 2^53";
  if (record.compressedEnd > offsetMax) return "its compressed end is beyond 2^53";
  if (record.compressedStart >= record.compressedEnd) return "its compressed range is empty";
  if (record.restart == Restart::block) {
    if (compression != Compression::gzip) return "only deflate has blocks to restart at";
    if (record.startBit > 7) return "startBit is above 7";
    if (record.windowLength > windowBytesMax) return "its window is longer than 32 KiB";
    if (record.windowLength > record.uncompressedOffset) return "its window is longer than what is before it";
    if (record.windowStored > windowStoredMax) return "its stored window is longer than 64 KiB";
    if ((record.windowStored == 0) != (record.windowLength == 0)) return "its window is stored with one length of zero";
  } else if (record.startBit != 0 || record.windowStored != 0 || record.windowLength != 0) {
    return "it has a bit or a window, but does not restart at a block";
  }
  if (compression == Compression::none) {
    if (record.restart != Restart::member) return "plain bytes restart everywhere";
    if (record.compressedStart != record.uncompressedOffset ||
        record.compressedEnd != record.uncompressedOffset + record.uncompressedLength)
      return "plain bytes lie elsewhere in the blob than in the layer";
  }
  return nullptr;
}

const char* brokenOrder(const SpanRecord& before, const SpanRecord& record) {
  if (record.uncompressedOffset != before.uncompressedOffset + before.uncompressedLength) return "it leaves a gap";
  if (record.compressedStart < before.compressedStart) return "its compressed start goes back";
  if (record.compressedEnd < before.compressedEnd) return "its compressed end goes back";
  if (record.restart == Restart::none && record.compressedStart != before.compressedStart)
    return "it does not start where the restart before it does";
  return nullptr;
}

SpanRecord decodeSpanRecord(const uint8_t* raw) {
  SpanRecord record;
  record.uncompressedOffset = get<uint64_t>(raw);
  record.uncompressedLength = get<uint32_t>(raw + 8);
  record.restart = static_cast<Restart>(raw[12]);
  record.startBit = raw[13];
  record.compressedStart = get<uint64_t>(raw + 16);
  record.compressedEnd = get<uint64_t>(raw + 24);
  record.windowOffset = get<uint64_t>(raw + 32);
  record.windowStored = get<uint32_t>(raw + 40);
  record.windowLength = get<uint32_t>(raw + 44);
  for (size_t i = 0; i < record.sha256.size(); i++) record.sha256[i] = raw[48 + i];
  return record;
}

}  // namespace

void encodeSpanRecord(const SpanRecord& record, std::span<uint8_t, spanRecordBytes> out) {
  uint8_t* raw = out.data();
  put(raw, record.uncompressedOffset);
  put(raw + 8, record.uncompressedLength);
  raw[12] = static_cast<uint8_t>(record.restart);
  raw[13] = record.startBit;
  put(raw + 14, uint16_t{0});
  put(raw + 16, record.compressedStart);
  put(raw + 24, record.compressedEnd);
  put(raw + 32, record.windowOffset);
  put(raw + 40, record.windowStored);
  put(raw + 44, record.windowLength);
  for (size_t i = 0; i < record.sha256.size(); i++) raw[48 + i] = record.sha256[i];
}

std::vector<SpanRecord> decodeSpanRun(Bytes bytes, Compression compression) {
  if (bytes.empty() || bytes.size() % spanRecordBytes != 0)
    throw CodedError("SPAN_CORRUPT", "span records have " + std::to_string(bytes.size()) + " bytes, not a multiple of 80");
  std::vector<SpanRecord> records;
  records.reserve(bytes.size() / spanRecordBytes);
  for (size_t at = 0; at < bytes.size(); at += spanRecordBytes) {
    SpanRecord record = decodeSpanRecord(bytes.data() + at);
    const char* broken = brokenRule(record, bytes.data() + at, compression);
    if (!broken && records.empty() && record.restart == Restart::none) broken = "the first span is no restart point";
    if (!broken && !records.empty()) broken = brokenOrder(records.back(), record);
    if (broken)
      throw CodedError("SPAN_CORRUPT", "span record at offset " + std::to_string(record.uncompressedOffset) + ": " + broken);
    records.push_back(record);
  }
  return records;
}

}  // namespace skim
