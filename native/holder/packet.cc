#include "holder/packet.h"

#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace skim::holder {
namespace {

// One for the process, which has one thread: pages that no packet has reached take no memory.
std::array<char, packetBytesMax> buffer;

// The kernel's SCM_MAX_FD.
constexpr size_t descriptorsMax = 253;

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
  iovec text{buffer.data(), buffer.size()};
  // Room for all that can come: what is not taken would be lost without a word, and a descriptor that we do not know of would stay open.
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * descriptorsMax)];
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got;
  do {
    got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Received::nothing;
  if (got < 0) return Received::closed;

  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
      UniqueFd owner(fd);
      if (packet.descriptor.get() < 0) packet.descriptor = std::move(owner);
    }
  }
  // A packet of no bytes looks like the end, and is treated like it.
  if (got == 0 || (message.msg_flags & MSG_TRUNC) != 0 || buffer[static_cast<size_t>(got) - 1] != '\0') return Received::closed;
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
  iovec text{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof(descriptor));
  }
  for (;;) {
    if (sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
    if (errno != EINTR) return false;
  }
}

}  // namespace skim::holder
