#include "holder/holder.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <exception>

#include "holder/log.h"

namespace skim::holder {
namespace {

// Who starts a holder says HELLO at once. One whose starter has died meanwhile is of no use.
constexpr uint64_t firstServerMs = 30'000;
// node takes 0.1 s from exec to HELLO, on a machine that does nothing else.
constexpr uint64_t startMs = 30'000;
// A server that dies before it serves: most likely so will the next.
constexpr uint64_t pauseMsFirst = 100;
constexpr uint64_t pauseMsMax = 5'000;
// One is usual, two where one takes over. More are somebody's mistake.
constexpr size_t peersMax = 32;

std::string detail(const char* name, uint64_t value) { return "\"" + std::string(name) + "\":" + std::to_string(value); }
std::string detail(const char* name, std::string_view value) { return "\"" + std::string(name) + "\":" + quoted(value); }

}  // namespace

uint64_t monotonicMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

Holder::Holder(UniqueFd listener, UniqueFd signals, Inherited inherited)
    : listener_(std::move(listener)),
      signals_(std::move(signals)),
      reserve_(open("/dev/null", O_RDONLY | O_CLOEXEC)),
      inherited_(std::move(inherited)),
      firstUntilMs_(monotonicMs() + firstServerMs) {}

void Holder::run() {
  while (!isOver()) {
    try {
      turn();
    } catch (const std::exception& error) {
      // Out of memory for a moment. What was to be done is done in one of the next turns, or its peer finds out.
      log(Level::error, "a turn failed", detail("error", error.what()));
    }
  }
}

// Somebody may still have use for it as long as something is held, served or to be started.
bool Holder::isOver() const {
  if (!held_.empty() || !mounting_.empty()) return false;
  return isTerminated_ || (endsWhenEmpty_ && !server_ && !next_);
}

void Holder::turn() {
  std::vector<pollfd> polled{{listener_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
  for (const auto& peer : peers_) {
    polled.push_back({peer->socket.get(), POLLIN, 0});
    // -1 where there is none: poll(2) skips it.
    polled.push_back({peer->process.handle.get(), POLLIN, 0});
  }
  // /dev/fuse is in error once its mount has ended. It is looked at only where no server would say so: whoever polls it is woken by every request.
  const size_t heldFirst = polled.size();
  if (!server_)
    for (const Held& held : held_) polled.push_back({held.descriptor.get(), 0, 0});

  int waitMs = -1;
  if (const auto due = nextDueMs()) {
    const uint64_t now = monotonicMs();
    waitMs = *due > now ? static_cast<int>(std::min<uint64_t>(*due - now, 3'600'000)) : 0;
  }
  if (poll(polled.data(), polled.size(), waitMs) < 0) return;

  const size_t peerCount = peers_.size();
  // From behind: what is dropped moves nothing that is still to be looked at.
  for (size_t i = polled.size(); i > heldFirst; i--)
    if ((polled[i - 1].revents & (POLLERR | POLLNVAL)) != 0) dropDisconnected(i - 1 - heldFirst);
  for (size_t i = 0; i < peerCount; i++) {
    Peer& peer = *peers_[i];
    if (polled[2 + 2 * i].revents != 0 && !peer.isGone) hear(peer);
    if ((polled[3 + 2 * i].revents & POLLIN) != 0) lose(peer);
  }
  if (polled[1].revents != 0) takeSignals();
  if (polled[0].revents != 0) accept();
  doWhatIsDue();
  for (Mounting& mounting : mounting_)
    if (mounting.peer && mounting.peer->isGone) mounting.peer = nullptr;
  std::erase_if(peers_, [](const auto& peer) { return peer->isGone; });
}

// -- what is due ------------------------------------------------------------------------------------------------------

std::optional<uint64_t> Holder::nextDueMs() const {
  std::optional<uint64_t> due = firstUntilMs_;
  const auto consider = [&](uint64_t at) { due = std::min(due.value_or(at), at); };
  if (startAtMs_) consider(*startAtMs_);
  if (starting_.pid > 0) consider(startingUntilMs_);
  if (server_ && next_) consider(letGoUntilMs_);
  if (server_ && server_->watchdogMs > 0) consider(server_->heardMs + server_->watchdogMs);
  return due;
}

void Holder::doWhatIsDue() {
  const uint64_t now = monotonicMs();
  if (firstUntilMs_ && *firstUntilMs_ <= now) {
    firstUntilMs_.reset();
    endsWhenEmpty_ = true;
  }
  if (server_ && server_->watchdogMs > 0 && server_->heardMs + server_->watchdogMs <= now) {
    log(Level::error, "the server has not been heard of and is killed",
        detail("server", server_->process.pid) + "," + detail("silentMs", now - server_->heardMs));
    killProcess(server_->process);
    lose(*server_);
  }
  if (server_ && next_ && letGoUntilMs_ <= now) {
    log(Level::error, "the server has not let go for the next one and is killed",
        detail("server", server_->process.pid) + "," + detail("next", next_->process.pid));
    killProcess(server_->process);
    lose(*server_);
  }
  if (starting_.pid > 0 && startingUntilMs_ <= now) {
    killProcess(starting_);
    startFailed("a server that was started has not come and is killed");
  }
  if (startAtMs_ && *startAtMs_ <= now) startServer();
}

// -- peers --------------------------------------------------------------------------------------------------------------

void Holder::accept() {
  // Some, then the others get their turn.
  for (int i = 0; i < 16; i++) {
    UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.get() >= 0)
      admit(std::move(socket));
    else if (errno == EMFILE || errno == ENFILE)
      return turnAway();
    else
      return;
  }
}

// Left in the queue it would wake us for ever.
void Holder::turnAway() {
  reserve_.reset();
  UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)).reset();
  reserve_ = UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  log(Level::warn, "a connection was turned away: no descriptor is left");
}

void Holder::admit(UniqueFd socket) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 || credentials.uid != geteuid()) {
    log(Level::warn, "a connection of another user was turned away", detail("uid", credentials.uid));
    return;
  }
  const auto connected = std::count_if(peers_.begin(), peers_.end(), [](const auto& peer) { return !peer->isGone; });
  if (static_cast<size_t>(connected) >= peersMax) {
    // Who has said nothing for longest goes, not who comes: it may be a server.
    const auto idle = std::find_if(peers_.begin(), peers_.end(),
                                   [&](const auto& peer) { return !peer->isGone && peer.get() != server_ && peer.get() != next_; });
    if (idle != peers_.end()) lose(**idle);
  }
  auto peer = std::make_unique<Peer>();
  peer->socket = std::move(socket);
  peer->process.pid = credentials.pid;
  peers_.push_back(std::move(peer));
}

void Holder::hear(Peer& peer) {
  // A few, then the others get their turn.
  for (int i = 0; i < 16 && !peer.isGone; i++) {
    Packet packet;
    const Received received = receivePacket(peer.socket.get(), packet);
    if (received == Received::nothing) return;
    if (received == Received::closed) return lose(peer);
    peer.heardMs = monotonicMs();
    handle(peer, packet);
  }
}

// A connection is over. Does nothing the second time.
void Holder::lose(Peer& peer) {
  if (std::exchange(peer.isGone, true)) return;
  peer.socket.reset();
  if (&peer == next_) next_ = nullptr;
  if (&peer != server_) return;
  const bool wasReady = peer.isReady;
  log(Level::warn, "the server is gone", detail("server", peer.process.pid) + "," + detail("held", held_.size()));
  forgetServer(peer.served > 0);
  if (!server_) startLater(wasReady);
}

// The next one takes its place, where there is one.
void Holder::forgetServer(bool hasMoved) {
  server_ = nullptr;
  judgeConnections(hasMoved);
  if (next_) welcome(*std::exchange(next_, nullptr));
}

// -- starting servers -----------------------------------------------------------------------------------------------------

void Holder::startLater(bool wasReady) {
  if (!command_) {
    // Somebody else starts it, or nobody does.
    endsWhenEmpty_ = true;
    return;
  }
  failures_ = wasReady ? 0 : std::min(failures_ + 1, 16u);
  const uint64_t pause = failures_ == 0 ? 0 : std::min(pauseMsFirst << (failures_ - 1), pauseMsMax);
  startAtMs_ = monotonicMs() + pause;
}

void Holder::startServer() {
  startAtMs_.reset();
  restarts_++;
  starting_ = startCommand(*command_, inherited_);
  startingUntilMs_ = monotonicMs() + startMs;
  if (starting_.pid <= 0) return startFailed("no process for a server can be had");
  log(Level::warn, "a server is started", detail("server", starting_.pid) + "," + detail("restarts", restarts_));
}

void Holder::startFailed(const char* how) {
  log(Level::error, how, detail("server", std::max(starting_.pid, 0)) + "," + detail("held", held_.size()));
  starting_ = Process();
  judgeConnections(false);
  // Another one may have come by itself.
  if (!server_) startLater(false);
}

// The last resort, where it was asked for: a connection that servers die of is ended.
void Holder::judgeConnections(bool hasMoved) {
  if (abortAfterRestarts_ == 0) return;
  for (Held& held : held_) {
    const uint64_t waiting = waitingRequests(held.minor).value_or(0);
    held.stuck = waiting > 0 && !hasMoved ? held.stuck + 1 : 0;
    if (held.stuck < abortAfterRestarts_) continue;
    log(Level::error, "the connection is aborted: its readers get ENOTCONN, and so does everybody until it is unmounted",
        detail("id", held.id) + "," + detail("mountpoint", held.mountpoint) + "," + detail("waiting", waiting) + "," +
            detail("restartsInVain", held.stuck));
    if (!abortConnection(held.minor)) log(Level::error, "the connection cannot be aborted", detail("id", held.id));
    held.stuck = 0;
  }
}

void Holder::dropDisconnected(size_t position) {
  log(Level::info, "the mount has ended", detail("id", held_[position].id) + "," + detail("mountpoint", held_[position].mountpoint));
  held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(position));
}

// -- signals ----------------------------------------------------------------------------------------------------------------

void Holder::takeSignals() {
  signalfd_siginfo signal;
  while (read(signals_.get(), &signal, sizeof(signal)) == sizeof(signal)) {
    if (signal.ssi_signo != SIGTERM) continue;
    isTerminated_ = held_.empty() && mounting_.empty();
    if (!isTerminated_) log(Level::warn, "not ended by SIGTERM: mounts would die with it", detail("held", held_.size()));
  }
  reapChildren();
}

void Holder::reapChildren() {
  int status;
  for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG)) {
    if (pid == starting_.pid) startFailed("a server that was started has ended before it came");
    const auto found = std::find_if(mounting_.begin(), mounting_.end(), [&](const Mounting& one) { return one.child == pid; });
    if (found == mounting_.end()) continue;
    Mounting mounting = std::move(*found);
    mounting_.erase(found);
    finishMount(mounting, WIFEXITED(status) ? WEXITSTATUS(status) : EIO);
  }
}

}  // namespace skim::holder
