#include "holder/packet.h"

#include <sys/socket.h>

#include <cerrno>
#include <charconv>

#include "descriptor-message.h"

namespace skim::holder {
namespace {

// One for the process, which has one thread: pages that no packet has reached take no memory.
std::array<char, packetBytesMax> buffer;

}  // namespace

std::optional<uint64_t> Packet::number(size_t position, uint64_t most) const {
  const std::string_view text = field(position);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

Received receivePacket(int socket, Packet& packet) {
  packet.fields.clear();
  packet.descriptor = UniqueFd();
  ReceivedMessage message = receiveMessage(socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
  const ssize_t got = message.length;
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Received::nothing;
  if (got < 0) return Received::closed;
  packet.descriptor = std::move(message.descriptor);
  // A packet of no bytes looks like the end, and is treated like it.
  if (got == 0 || message.isCut || buffer[static_cast<size_t>(got) - 1] != '\0') return Received::closed;
  std::string_view rest(buffer.data(), static_cast<size_t>(got));
  while (!rest.empty()) {
    const size_t end = rest.find('\0');
    packet.fields.push_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  return Received::packet;
}

bool sendPacket(int socket, const std::vector<std::string_view>& fields, int descriptor) {
  std::string bytes;
  for (const std::string_view field : fields) bytes.append(field).push_back('\0');
  return sendMessage(socket, bytes.data(), bytes.size(), descriptor, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

}  // namespace skim::holder
