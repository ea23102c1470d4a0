// Unix sockets that carry packets, each with a descriptor beside it where that is wanted (unix(7), SOCK_SEQPACKET and SOCK_DGRAM): what node:net lacks.
//
// Nothing here waits. Sending fails with EAGAIN where the other side does not take what it is sent; what is received is reported by the event loop (uv_poll_t), and
// takes no thread of the pool, however long the other side says nothing.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "descriptor-message.h"
#include "handle.h"
#include "posix/arguments.h"
#include "posix/bindings.h"
#include "unique-fd.h"

namespace skim {
namespace {

// Longer than any packet that is sent to us.
constexpr size_t packetBytesMax = 64 * 1024;

// One socket that the event loop watches. It holds itself until libuv has let go of it.
struct SocketWatch {
  uv_poll_t poll{};
  UniqueFd fd;
  Napi::FunctionReference onPacket;
  std::optional<Napi::AsyncContext> context;
  std::array<uint8_t, packetBytesMax> packet;
  bool isClosed = false;
  std::shared_ptr<SocketWatch> self;
};

struct SocketShare {
  std::shared_ptr<SocketWatch> watch;
};

void closeWatch(SocketWatch& watch) {
  if (std::exchange(watch.isClosed, true)) return;
  uv_poll_stop(&watch.poll);
  uv_close(reinterpret_cast<uv_handle_t*>(&watch.poll), [](uv_handle_t* handle) {
    auto* watch = static_cast<SocketWatch*>(handle->data);
    watch->fd.reset();
    watch->onPacket.Reset();
    watch->context.reset();
    watch->self.reset();
  });
}

// Calls JavaScript from the event loop. What it throws is an uncaught exception there, as from any other event.
void tell(SocketWatch& watch, Napi::Value packet, int descriptor) {
  const Napi::Env env = watch.onPacket.Env();
  try {
    watch.onPacket.MakeCallback(env.Global(), {packet, Napi::Number::New(env, descriptor)}, *watch.context);
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  }
}

void onReadable(uv_poll_t* handle, int, int) {
  // Its own reference: JavaScript may close it in between.
  const std::shared_ptr<SocketWatch> watch = static_cast<SocketWatch*>(handle->data)->self;
  const Napi::Env env = watch->onPacket.Env();
  while (!watch->isClosed) {
    const Napi::HandleScope scope(env);
    ReceivedMessage message =
        receiveMessage(watch->fd.get(), watch->packet.data(), watch->packet.size(), MSG_DONTWAIT);
    const ssize_t got = message.length;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      closeWatch(*watch);
      return tell(*watch, env.Null(), -1);
    }
    auto bytes = Napi::Uint8Array::New(env, static_cast<size_t>(got));
    std::memcpy(bytes.Data(), watch->packet.data(), static_cast<size_t>(got));
    tell(*watch, bytes, message.descriptor.release());
  }
}

}  // namespace

using SocketHandle = Handle<SocketShare>;
template <>
const int64_t SocketHandle::memoryBytes = packetBytesMax;
template <>
const napi_type_tag SocketHandle::typeTag = {0x736b696d2d736f63, 0x6b65742d2d303031};

Napi::Value socketConnect(const Napi::CallbackInfo& info) {
  const std::string path = textArgument(info, 0, "connect");
  const bool isDatagram = booleanArgument(info, 1);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) throw systemError(ENAMETOOLONG, "connect", path);
  std::memcpy(address.sun_path, path.data(), path.size());
  const bool isAbstract = path[0] == '@';
  if (isAbstract) address.sun_path[0] = '\0';
  // A name is as long as the address says; a path ends with its NUL.
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (isAbstract ? 0 : 1));
  const int type = isDatagram ? SOCK_DGRAM : SOCK_SEQPACKET;
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.get() < 0) throw systemError(errno, "socket", path);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) throw systemError(errno, "connect", path);
  return Napi::Number::New(info.Env(), fd.release());
}

Napi::Value socketSend(const Napi::CallbackInfo& info) {
  const auto fd = static_cast<int>(integerArgument(info, 0, 0, INT32_MAX));
  Napi::Uint8Array array = bytesArgument(info, 1);
  const auto descriptor = static_cast<int>(integerArgument(info, 2, -1, INT32_MAX));
  if (sendMessage(fd, array.Data(), array.ByteLength(), descriptor, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
    throw systemError(errno, "sendmsg");
  return info.Env().Undefined();
}

Napi::Value socketWatch(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  // Ours from here on, also where this throws.
  UniqueFd fd(static_cast<int>(integerArgument(info, 0, 0, INT32_MAX)));
  if (!info[1].IsFunction()) throw wrongArgument(1, "a function");
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw misuse("there is no event loop");
  auto watch = std::make_shared<SocketWatch>();
  watch->onPacket = Napi::Persistent(info[1].As<Napi::Function>());
  watch->context.emplace(env, "skim socket");
  const int failure = uv_poll_init(loop, &watch->poll, fd.get());
  if (failure != 0) throw systemError(-failure, "uv_poll_init");
  watch->fd = std::move(fd);
  watch->poll.data = watch.get();
  watch->self = watch;
  uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, onReadable);
  // Whoever waits for an answer has a time limit, and that keeps the process.
  uv_unref(reinterpret_cast<uv_handle_t*>(&watch->poll));
  return SocketHandle::wrap(env, std::make_unique<SocketShare>(SocketShare{watch}));
}

Napi::Value socketClose(const Napi::CallbackInfo& info) {
  closeWatch(*SocketHandle::from(info, "a socket").resource->watch);
  return info.Env().Undefined();
}

}  // namespace skim
