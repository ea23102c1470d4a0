// Owner of a zlib inflate state. zlib is the one inside the node binary, which exports it.

#pragma once

#include <zlib.h>

#include <new>

namespace skim {

class Inflater {
 public:
  static constexpr int rawDeflate = -15;
  static constexpr int gzipMember = 15 + 16;

  explicit Inflater(int windowBits) {
    if (inflateInit2(&stream, windowBits) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&stream); }
  // zlib's state points back at its z_stream: it can be neither copied nor moved.
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  void reset(int windowBits) { inflateReset2(&stream, windowBits); }

  z_stream stream{};
};

}  // namespace skim
