// Frames over standard input and output: a type (1 byte), a length (4 bytes, little endian), that many bytes.
//
// Nothing is buffered beyond one frame, and output is written before input goes on: who does not read holds everything up, and so
// bounds the memory of both sides.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace skim::files {

// Longest payload; data of files comes in more frames. As long as that, so that the other side, which does something for each frame, has few to do it for.
constexpr uint32_t frameBytesMax = 1 << 18;

struct Frame {
  char type;
  std::string payload;
};

// From now on reading ends with that process as well. `pidFd` stays the caller's.
void endWith(int pidFd);
// Throws Stopped at the end of the input, for a frame that is too long, and when a signal came; Failure (ESRCH) where the process of `endWith` has ended.
Frame readFrame();
void writeFrame(char type, std::string_view payload);

// Takes numbers (little endian) and bytes off a payload. Throws Failure (EPROTO) where it is too short.
class Fields {
 public:
  explicit Fields(std::string_view rest) : rest_(rest) {}
  uint8_t u8() { return static_cast<uint8_t>(number(1)); }
  uint32_t u32() { return static_cast<uint32_t>(number(4)); }
  uint64_t u64() { return number(8); }
  // Bytes with their length (2 bytes) before them.
  std::string bytes();
  std::string rest() { return std::string(rest_); }

 private:
  uint64_t number(size_t size);
  std::string_view rest_;
};

// Puts a payload together.
class Payload {
 public:
  Payload& u8(uint8_t value) { return number(value, 1); }
  Payload& u32(uint32_t value) { return number(value, 4); }
  Payload& u64(uint64_t value) { return number(value, 8); }
  Payload& bytes(std::string_view value);
  Payload& rest(std::string_view value) {
    text_ += value;
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  Payload& number(uint64_t value, size_t size);
  std::string text_;
};

}  // namespace skim::files
