// Bytes of a layer on their way: from the buffer they were inflated into to files that are named by numbers.

#pragma once

#include <cstdint>
#include <vector>

#include "guard.h"

namespace skim {

// `length` bytes from `bytesOffset` of a buffer belong at `fileOffset` of the file `number`.
struct StagedRange {
  uint32_t number;
  uint64_t fileOffset;
  uint64_t bytesOffset;
  uint64_t length;
};

// Writes ranges into files of `directory`, which are made where they are not there. Returns `crc` (CRC-32 as zlib has it) gone on with over
// their bytes. Throws the errno.
uint32_t stageRanges(int directory, Bytes bytes, const std::vector<StagedRange>& ranges, uint32_t crc);

}  // namespace skim
