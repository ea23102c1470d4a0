// What peers ask a holder for, and what they are answered. src/holder/holder-protocol.ts lists the fields of each.

#include <fcntl.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>

#include "holder/holder.h"
#include "holder/log.h"

namespace skim::holder {
namespace {

constexpr std::string_view protocolVersion = "1";

// In the words of src/holder/descriptor-keeper.ts; paths as the kernel takes them.
constexpr size_t idBytesMax = 64;
constexpr size_t noteBytesMax = 4096;
constexpr size_t pathBytesMax = 4095;
constexpr size_t initResultBytesMax = 512;
// A thousand containers on a host are many.
constexpr size_t heldMax = 4096;
// A watchdog of more than a day is none.
constexpr uint64_t watchdogMsMax = 86'400'000;
// Reads under way get some seconds to be answered by the one who has begun them (NativeSession.letGo).
constexpr uint64_t letGoMs = 15'000;
constexpr unsigned minorMax = (1 << 20) - 1;

bool isId(std::string_view text) {
  if (text.empty() || text.size() > idBytesMax || !isalnum(static_cast<unsigned char>(text[0]))) return false;
  for (const char c : text)
    if (!isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.' && c != '-') return false;
  return true;
}

bool isMountpoint(std::string_view text) { return !text.empty() && text[0] == '/' && text.size() <= pathBytesMax; }

}  // namespace

void Holder::handle(Peer& peer, Packet& packet) {
  const std::string_view verb = packet.field(0);
  const std::string_view number = packet.field(1);
  if (verb == "HELLO") return hello(peer, packet);
  if (&peer != server_) return refuse(peer, number, EPERM);
  if (verb == "BEAT") {
    peer.served = packet.number(2).value_or(0);
  } else if (verb == "READY") {
    peer.isReady = true;
    failures_ = 0;
    log(Level::info, "the server is ready", "\"server\":" + std::to_string(peer.process.pid) + ",\"status\":" + quoted(packet.field(2)));
  } else if (verb == "TAKE") {
    take(peer, packet);
  } else if (verb == "MOUNT") {
    mount(peer, packet);
  } else if (verb == "HOLD") {
    hold(peer, packet);
  } else if (verb == "KEEP") {
    keep(peer, packet);
  } else if (verb == "RELEASE") {
    release(peer, packet);
  } else if (verb == "LEAVE") {
    answer(peer, {"OK", number});
    if (peer.isGone) return;
    log(Level::info, "the server leaves", "\"server\":" + std::to_string(peer.process.pid));
    const bool wasAsked = letGoUntilMs_ != 0;
    peer.isGone = true;
    peer.socket.reset();
    if (!wasAsked) {
      command_.reset();
      endsWhenEmpty_ = packet.number(2).value_or(0) == 1;
    }
    forgetServer(true);
    // It left for one that has died meanwhile.
    if (wasAsked && !server_) startLater(true);
  } else {
    refuse(peer, number, ENOSYS);
  }
}

// HELLO number version watchdogMs abortAfterRestarts restarts(0|1) logFile file argumentCount arguments... environment...
void Holder::hello(Peer& peer, const Packet& packet) {
  const std::string_view number = packet.field(1);
  const auto watchdogMs = packet.number(3, watchdogMsMax);
  const auto abortAfterRestarts = packet.number(4, UINT32_MAX);
  const auto isRestarted = packet.number(5, 1);
  constexpr size_t argumentsFirst = 9;
  const auto argumentCount = packet.number(8, packet.fields.size());
  if (packet.field(2) != protocolVersion || !watchdogMs || !abortAfterRestarts || !isRestarted || !argumentCount ||
      argumentsFirst + *argumentCount > packet.fields.size() || &peer == server_)
    return refuse(peer, number, EINVAL);
  if (next_) return refuse(peer, number, EBUSY);

  command_.reset();
  if (*isRestarted == 1) {
    const auto arguments = packet.fields.begin() + argumentsFirst;
    const auto environment = arguments + static_cast<std::ptrdiff_t>(*argumentCount);
    command_ = Command{std::string(packet.field(7)), {arguments, environment}, {environment, packet.fields.end()}, std::string(packet.field(6))};
  }
  abortAfterRestarts_ = *abortAfterRestarts;
  firstUntilMs_.reset();
  endsWhenEmpty_ = false;
  peer.helloNumber = number;
  peer.watchdogMs = *watchdogMs;
  peer.process = openProcess(peer.process.pid);
  // One that came by itself is as good as the one that is being started, and two would drive each other out.
  if (starting_.pid > 0 && peer.process.pid != starting_.pid) killProcess(starting_);
  starting_ = Process();
  startAtMs_.reset();
  if (!server_) return welcome(peer);
  next_ = &peer;
  if (letGoUntilMs_ == 0) letGoUntilMs_ = peer.heardMs + letGoMs;
  log(Level::info, "another server has come, and the server is asked to let go",
      "\"server\":" + std::to_string(server_->process.pid) + ",\"next\":" + std::to_string(peer.process.pid));
  answer(*server_, {"LETGO", "0"});
}

void Holder::welcome(Peer& peer) {
  server_ = &peer;
  letGoUntilMs_ = 0;
  log(Level::info, "a server has come", "\"server\":" + std::to_string(peer.process.pid) + ",\"held\":" + std::to_string(held_.size()));
  const std::string restarts = std::to_string(restarts_);
  const std::string held = std::to_string(held_.size());
  // The watchdog's time begins when it may do something.
  peer.heardMs = std::max(peer.heardMs, monotonicMs());
  answer(peer, {"WELCOME", peer.helloNumber, protocolVersion, restarts, held});
}

// TAKE number position: HELD number id mountpoint note initResult minor, and the descriptor; END behind the last.
void Holder::take(Peer& peer, const Packet& packet) {
  const std::string_view number = packet.field(1);
  const auto position = packet.number(2);
  if (!position) return refuse(peer, number, EINVAL);
  if (*position >= held_.size()) return answer(peer, {"END", number});
  const Held& held = held_[*position];
  const std::string minor = std::to_string(held.minor);
  answer(peer, {"HELD", number, held.id, held.mountpoint, held.note, held.initResult, minor}, held.descriptor.get());
}

// MOUNT number id mountpoint source allowOther(0|1) note: MOUNTED number, and the descriptor.
void Holder::mount(Peer& peer, const Packet& packet) {
  const std::string_view number = packet.field(1);
  const auto allowOther = packet.number(5, 1);
  if (!isId(packet.field(2)) || !isMountpoint(packet.field(3)) || !allowOther || packet.field(6).size() > noteBytesMax)
    return refuse(peer, number, EINVAL);
  // The next server must know of everything that it is to serve.
  if (letGoUntilMs_ != 0) return refuse(peer, number, EBUSY);
  for (const Mounting& other : mounting_)
    if (other.held.id == packet.field(2)) return refuse(peer, number, EEXIST);
  if (find(packet.field(2))) return refuse(peer, number, EEXIST);
  if (held_.size() + mounting_.size() >= heldMax) return refuse(peer, number, ENOSPC);

  Held held;
  held.id = packet.field(2);
  held.mountpoint = packet.field(3);
  held.note = packet.field(6);
  held.descriptor = UniqueFd(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  const int descriptor = held.descriptor.get();
  if (descriptor < 0) return refuse(peer, number, errno, "open");
  const std::string source(packet.field(4));
  const pid_t child = startChild([&] {
    // A child that hangs must keep nothing alive.
    if (descriptor > 3) close_range(3, static_cast<unsigned>(descriptor) - 1, 0);
    close_range(static_cast<unsigned>(descriptor) + 1, ~0u, 0);
    return mountFuse(descriptor, held.mountpoint, source, *allowOther == 1);
  });
  if (child < 0) return refuse(peer, number, errno, "fork");
  mounting_.push_back({child, &peer, std::string(number), std::move(held)});
}

void Holder::finishMount(Mounting& mounting, int error) {
  Peer* peer = mounting.peer && !mounting.peer->isGone ? mounting.peer : nullptr;
  if (error != 0) {
    if (peer) refuse(*peer, mounting.number, error, "mount");
    return;
  }
  if (!peer) {
    // Nobody has been told of it, so nobody uses it. Whoever asked for it wrote down before that he would.
    log(Level::warn, "a mount is given up: its server died meanwhile", "\"mountpoint\":" + quoted(mounting.held.mountpoint));
    return;
  }
  held_.push_back(std::move(mounting.held));
  answer(*peer, {"MOUNTED", mounting.number}, held_.back().descriptor.get());
}

// HOLD number id mountpoint note initResult minor, with the descriptor: what another holder had.
void Holder::hold(Peer& peer, Packet& packet) {
  const std::string_view number = packet.field(1);
  const auto minor = packet.number(6, minorMax);
  if (!isId(packet.field(2)) || !isMountpoint(packet.field(3)) || packet.field(4).size() > noteBytesMax ||
      packet.field(5).size() > initResultBytesMax || !minor)
    return refuse(peer, number, EINVAL);
  if (packet.descriptor.get() < 0 || !isFuseDevice(packet.descriptor.get())) return refuse(peer, number, EBADF);
  if (find(packet.field(2))) return refuse(peer, number, EEXIST);
  if (held_.size() >= heldMax) return refuse(peer, number, ENOSPC);
  Held held;
  held.id = packet.field(2);
  held.mountpoint = packet.field(3);
  held.note = packet.field(4);
  held.initResult = packet.field(5);
  held.minor = static_cast<unsigned>(*minor);
  held.descriptor = std::move(packet.descriptor);
  held_.push_back(std::move(held));
  answer(peer, {"OK", number});
}

// KEEP number id initResult minor
void Holder::keep(Peer& peer, const Packet& packet) {
  const std::string_view number = packet.field(1);
  const auto minor = packet.number(4, minorMax);
  if (packet.field(3).size() > initResultBytesMax || !minor) return refuse(peer, number, EINVAL);
  Held* held = find(packet.field(2));
  if (!held) return refuse(peer, number, ENOENT);
  held->initResult = packet.field(3);
  held->minor = static_cast<unsigned>(*minor);
  answer(peer, {"OK", number});
}

// RELEASE number id
void Holder::release(Peer& peer, const Packet& packet) {
  std::erase_if(held_, [&](const Held& held) { return held.id == packet.field(2); });
  answer(peer, {"OK", packet.field(1)});
}

// One that does not take its answers has something wrong with it: it asks for one thing at a time.
void Holder::answer(Peer& peer, const std::vector<std::string_view>& fields, int descriptor) {
  if (!peer.isGone && !sendPacket(peer.socket.get(), fields, descriptor)) lose(peer);
}

// ERROR number errno name syscall
void Holder::refuse(Peer& peer, std::string_view number, int error, std::string_view syscall) {
  const std::string value = std::to_string(error);
  const std::string name = errorName(error);
  answer(peer, {"ERROR", number, value, name, syscall});
}

Held* Holder::find(std::string_view id) {
  for (Held& held : held_)
    if (held.id == id) return &held;
  return nullptr;
}

}  // namespace skim::holder
