// The 32 KiB of history that inflate needs to restart at a deflate block, reduced to what is really used, and how it is stored.

#pragma once

#include <vector>

#include "gzip/gzip-stream.h"
#include "gzip/span-record.h"

namespace skim {

// Watches a stream from a checkpoint on, and finds out which bytes of the window before it matter.
class WindowProbe {
 public:
  // `checkpointByte` is the last byte taken by then: with a startBit, it holds the first bits of the block.
  WindowProbe(Bytes window, unsigned startBit, uint8_t checkpointByte);

  // Follows the stream: the compressed bytes that were taken since the last call. Must not be called once complete.
  void follow(Bytes compressed);

  // True when no byte to come can refer to the window.
  bool complete() const { return outputLeft_ == 0; }

  // No more bytes come: the stream has ended, or the member has.
  void end() { outputLeft_ = 0; }

  // The window with all bytes that are not referred to zeroed, and without those at its start.
  std::vector<uint8_t> sparseWindow() const;

 private:
  void noteUsed(const uint8_t* first, const uint8_t* second, size_t length);

  std::vector<uint8_t> window_;
  std::vector<uint8_t> usedMask_;  // for each byte of window_: 0xff where it is used, else 0
  uint32_t outputLeft_ = windowBytesMax;
  GzipStream firstTracer_;
  GzipStream secondTracer_;
};

// As in the archive: raw deflate, the same bytes for the same window.
std::vector<uint8_t> deflateWindow(Bytes window);

// The other way: exactly `length` bytes, from exactly the bytes of `stored`. Throws StreamError.
std::vector<uint8_t> inflateWindow(Bytes stored, uint32_t length);

}  // namespace skim
