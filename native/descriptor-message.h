// A message on a Unix socket that may carry an open descriptor (unix(7), SCM_RIGHTS): as the addon and the holder send and receive it.

#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "unique-fd.h"

namespace skim {

// sendmsg(2) with a copy of `descriptor`, or none where that is -1. Its result; never EINTR.
inline ssize_t sendMessage(int socket, const void* bytes, size_t length, int descriptor, int flags) {
  iovec text{const_cast<void*>(bytes), length};
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
    const ssize_t sent = sendmsg(socket, &message, flags);
    if (sent >= 0 || errno != EINTR) return sent;
  }
}

struct ReceivedMessage {
  // Of recvmsg(2): bytes, 0 at the end, -1 with errno set, which is never EINTR.
  ssize_t length;
  // It had more bytes than there was room for.
  bool isCut;
  // The first that came with it.
  UniqueFd descriptor;
};

// recvmsg(2). The descriptor is closed in programs that are started.
inline ReceivedMessage receiveMessage(int socket, void* into, size_t room, int flags) {
  // SCM_MAX_FD of the kernel: room for all that can come. What is not taken would be lost without a word, and one that we do not know of would stay open.
  constexpr size_t descriptorsMax = 253;
  iovec text{into, room};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * descriptorsMax)];
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ReceivedMessage received{};
  do {
    received.length = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  } while (received.length < 0 && errno == EINTR);
  if (received.length < 0) return received;
  received.isCut = (message.msg_flags & MSG_TRUNC) != 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
      UniqueFd owner(fd);
      if (received.descriptor.get() < 0) received.descriptor = std::move(owner);
    }
  }
  return received;
}

}  // namespace skim
