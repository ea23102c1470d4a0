#include "files/frames.h"

#include <poll.h>
#include <unistd.h>

#include "files/failure.h"

namespace skim::files {

namespace {

int endsWith = -1;

// A container that has ended is nobody's any more: what is sent on would keep its mounts, and be lost.
void waitForInput() {
  if (endsWith < 0) return;
  pollfd polls[2] = {{STDIN_FILENO, POLLIN, 0}, {endsWith, POLLIN, 0}};
  if (poll(polls, 2, -1) < 0) throw Stopped{};
  if (polls[1].revents != 0) throw Failure{ESRCH, "waiting for a request"};
}

void readAll(char* to, size_t size) {
  while (size > 0) {
    waitForInput();
    const ssize_t got = read(STDIN_FILENO, to, size);
    // A signal as well: only those that end this program come through.
    if (got <= 0) throw Stopped{};
    to += got;
    size -= static_cast<size_t>(got);
  }
}

void writeAll(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (put <= 0) throw Stopped{};
    bytes.remove_prefix(static_cast<size_t>(put));
  }
}

}  // namespace

void endWith(int pidFd) { endsWith = pidFd; }

Frame readFrame() {
  char header[5];
  readAll(header, sizeof header);
  const uint32_t length = Fields({header + 1, 4}).u32();
  if (length > frameBytesMax) throw Stopped{};
  Frame frame{header[0], std::string(length, '\0')};
  readAll(frame.payload.data(), length);
  return frame;
}

void writeFrame(char type, std::string_view payload) {
  // One write for a short frame: a system call less, and under gVisor those are dear.
  std::string bytes = Payload().u8(static_cast<uint8_t>(type)).u32(static_cast<uint32_t>(payload.size())).text();
  bytes += payload;
  writeAll(bytes);
}

std::string Fields::bytes() {
  const auto size = static_cast<size_t>(number(2));
  if (size > rest_.size()) throw Failure{EPROTO, "a request that is too short"};
  std::string value(rest_.substr(0, size));
  rest_.remove_prefix(size);
  return value;
}

uint64_t Fields::number(size_t size) {
  if (size > rest_.size()) throw Failure{EPROTO, "a request that is too short"};
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++) value |= uint64_t{static_cast<uint8_t>(rest_[i])} << (8 * i);
  rest_.remove_prefix(size);
  return value;
}

Payload& Payload::bytes(std::string_view value) {
  number(value.size(), 2);
  text_ += value;
  return *this;
}

Payload& Payload::number(uint64_t value, size_t size) {
  for (size_t i = 0; i < size; i++) text_ += static_cast<char>(value >> (8 * i));
  return *this;
}

}  // namespace skim::files
