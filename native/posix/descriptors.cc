// Pairs of connected sockets, and descriptors that come through them (unix(7), SCM_RIGHTS).

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "descriptor-message.h"
#include "pool-call.h"
#include "posix/arguments.h"
#include "posix/bindings.h"

namespace skim {

Napi::Value socketPair(const Napi::CallbackInfo& info) {
  const bool packets = booleanArgument(info, 0);
  int ends[2];
  if (socketpair(AF_UNIX, (packets ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0, ends) != 0)
    throw systemError(errno, "socketpair");
  auto pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, Napi::Number::New(info.Env(), ends[0]));
  pair.Set(1u, Napi::Number::New(info.Env(), ends[1]));
  return pair;
}

Napi::Value duplicateOnto(const Napi::CallbackInfo& info) {
  const auto descriptor = static_cast<int>(integerArgument(info, 0, 0, INT32_MAX));
  const auto target = static_cast<int>(integerArgument(info, 1, 0, INT32_MAX));
  if (dup2(descriptor, target) < 0) throw systemError(errno, "dup2");
  return info.Env().Undefined();
}

Napi::Value duplicateDescriptor(const Napi::CallbackInfo& info) {
  const auto descriptor = static_cast<int>(integerArgument(info, 0, 0, INT32_MAX));
  const int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw systemError(errno, "fcntl");
  return Napi::Number::New(info.Env(), copy);
}

Napi::Value isDisconnected(const Napi::CallbackInfo& info) {
  pollfd device{static_cast<int>(integerArgument(info, 0, 0, INT32_MAX)), 0, 0};
  if (poll(&device, 1, 0) < 0) throw systemError(errno, "poll");
  return Napi::Boolean::New(info.Env(), (device.revents & (POLLERR | POLLNVAL)) != 0);
}

Napi::Value receiveDescriptor(const Napi::CallbackInfo& info) {
  const auto socket = static_cast<int>(integerArgument(info, 0, 0, INT32_MAX));
  auto work = [=]() -> int {
    char byte;
    ReceivedMessage message = receiveMessage(socket, &byte, 1, 0);
    if (message.length < 0) throw systemError(errno, "recvmsg");
    return message.length == 0 ? -1 : message.descriptor.release();
  };
  return PoolCall<int>::start(info.Env(), {}, std::move(work), [](Napi::Env env, int& fd) -> Napi::Value {
    if (fd < 0) return env.Null();
    return Napi::Number::New(env, fd);
  });
}

}  // namespace skim
