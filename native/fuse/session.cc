#include "fuse/session.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

#include "errors.h"
#include "fuse/session-worker.h"

namespace skim::fuse {
namespace {

// max_write of the INIT reply: the least that the kernel takes. No write reaches a read-only mount.
constexpr uint32_t writeBytesMax = 4096;

// Requests on their way at once that nobody waits for (read-ahead): so many files can stand still before another one does. The kernel's own 12 would let
// a few slow ones stop all others.
constexpr uint16_t backgroundRequestsMax = 128;
constexpr uint16_t congestionThreshold = backgroundRequestsMax / 4 * 3;

bool isCharacterDevice(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode);
}

// Makes threads that sleep in a system call come back from it with EINTR. One that neither node nor V8 uses.
int wakeSignal() {
  static const int signal = [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    // No SA_RESTART: coming back is what it is for.
    sigaction(SIGRTMAX - 1, &action, nullptr);
    return SIGRTMAX - 1;
  }();
  return signal;
}

// A thread that has looked at `releasing_` and not yet entered read(2) when the signal comes misses it, and is woken by the next one.
constexpr std::chrono::milliseconds wakeInterval{1};

}  // namespace

InitResult InitResult::unknown() { return {1, protocolMinorMin, flagHasResend}; }

Session::Session(UniqueFd fd, std::shared_ptr<const ImageTree> tree, const SessionOptions& options,
                 std::optional<InitResult> predecessor, std::function<void()> notify)
    : fd_(std::move(fd)),
      tree_(std::move(tree)),
      metadata_(*tree_),
      options_(options),
      events_(std::move(notify)),
      layers_(tree_->layerCount()),
      touched_(tree_->spanCount()),
      isDevice_(isCharacterDevice(fd_.get())),
      init_(predecessor),
      isInitialized_(predecessor.has_value()) {
  for (unsigned i = 0; i < options_.threads; i++) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->ensureReply(headerBytes + readBytesUsual);
  }
  answerer_ = std::thread([this] { answerQueued(); });
  // One is counted for this constructor: a mount that ends meanwhile must not be over before all threads are started.
  serving_ = 1;
  for (auto& worker : workers_) {
    serving_.fetch_add(1);
    try {
      worker->thread = std::thread([this, &worker = *worker] { serve(worker); });
    } catch (const std::system_error& error) {
      serving_.fetch_sub(1);
      // Fewer threads serve as well, if there is one.
      if (&worker != &workers_.front()) break;
      stopAnswering();
      answerer_.join();
      throw systemError(error.code().value(), "pthread_create");
    }
  }
  leave();
}

Session::~Session() = default;

void Session::serve(Worker& worker) {
  while (!releasing_.load(std::memory_order_relaxed)) {
    const ssize_t length = ::read(fd_.get(), worker.request.data(), worker.request.size());
    if (length > 0) {
      worker.startedNs = nowNs();
      handle(worker, Bytes(worker.request.data(), static_cast<size_t>(length)));
      worker.busyWith.store(0, std::memory_order_relaxed);
      continue;
    }
    if (length == 0) break;
    // ENOENT: the request was taken back while it was being read. EINTR: before one was taken; none is lost.
    if (errno == EINTR || errno == ENOENT) continue;
    if (errno == EAGAIN) {
      // A descriptor that was handed over in non-blocking mode.
      pollfd waiting{fd_.get(), POLLIN, 0};
      poll(&waiting, 1, -1);
      continue;
    }
    // ENODEV: unmounted. ECONNABORTED: aborted. Anything else would be the same again.
    break;
  }
  leave();
}

// The last one to leave ends the session, unless it has been told to stop: then reads that wait for spans may still be answered.
void Session::leave() {
  if (serving_.fetch_sub(1) == 1 && !releasing_.load()) finish();
}

void Session::finish() {
  if (finished_.exchange(true)) return;
  waits_.close();
  stopAnswering();
  for (auto& layer : layers_) layer.store(nullptr);
  events_.push(EventKind::ended, 0);
}

void Session::release(std::chrono::milliseconds limit) {
  if (releaser_.joinable() || finished_.load()) return;
  const auto until = std::chrono::steady_clock::now() + limit;
  const int signal = wakeSignal();
  releasing_.store(true);
  try {
    releaser_ = std::thread([this, until, signal] {
      while (serving_.load() > 0) {
        for (const auto& worker : workers_)
          if (worker->thread.joinable()) pthread_kill(worker->thread.native_handle(), signal);
        std::this_thread::sleep_for(wakeInterval);
      }
      waits_.waitUntilNone(until);
      finish();
    });
  } catch (const std::system_error& error) {
    releasing_.store(false);
    throw systemError(error.code().value(), "pthread_create");
  }
}

void Session::stopAnswering() {
  {
    std::lock_guard lock(answersMutex_);
    stopping_ = true;
  }
  answersChanged_.notify_one();
}

void Session::join() {
  // First: it signals the others.
  if (releaser_.joinable()) releaser_.join();
  for (auto& worker : workers_)
    if (worker->thread.joinable()) worker->thread.join();
  if (answerer_.joinable()) answerer_.join();
  fd_.reset();
}

void Session::handle(Worker& worker, Bytes request) {
  fuse_in_header header;
  if (request.size() < sizeof(header)) return;
  std::memcpy(&header, request.data(), sizeof(header));
  const Bytes body = request.subspan(sizeof(header));
  worker.busySinceNs.store(worker.startedNs, std::memory_order_relaxed);
  worker.busyWith.store(header.opcode, std::memory_order_relaxed);
  counters_.operations[std::min(header.opcode, opcodesMax - 1)].fetch_add(1, std::memory_order_relaxed);
  if (header.len != request.size()) return sendError(header, body, EINVAL, worker.startedNs);
  if (header.opcode != FUSE_INIT && !isInitialized_.load(std::memory_order_relaxed)) assumeInitialized();

  Output output(worker.reply.get() + headerBytes, worker.replyBytes - headerBytes);
  int error = 0;
  switch (header.opcode) {
    case FUSE_LOOKUP:
      error = metadata_.lookup(header.nodeid, body, output);
      break;
    case FUSE_GETATTR:
      error = metadata_.getattr(header.nodeid, output);
      break;
    case FUSE_READLINK:
      error = metadata_.readlink(header.nodeid, output);
      break;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
      error = metadata_.readdir(header.nodeid, body, output, header.opcode == FUSE_READDIRPLUS);
      break;
    case FUSE_STATFS:
      error = metadata_.statfs(output);
      break;
    case FUSE_GETXATTR:
      error = metadata_.getxattr(header.nodeid, body, output);
      break;
    case FUSE_LISTXATTR:
      error = metadata_.listxattr(header.nodeid, body, output);
      break;
    case FUSE_READ:
      return read(worker, header, body);
    case FUSE_INIT:
      return init(worker, header, body);
    case FUSE_INTERRUPT:
      interrupt(body);
      return trace(header, body, 0, 0, worker.startedNs);
    // Nothing is counted, so nothing is forgotten; these have no reply.
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_NOTIFY_REPLY:
      return trace(header, body, 0, 0, worker.startedNs);
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_DESTROY:
      break;
    // The mount is read-only, so the kernel itself refuses these; only one that was remounted could send them.
    case FUSE_SETATTR:
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
    case FUSE_WRITE:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_CREATE:
    case FUSE_TMPFILE:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
      error = EROFS;
      break;
    // All else the kernel does better by itself, and once it has heard ENOSYS it asks no more: OPEN, OPENDIR and FLUSH (there is no state to
    // open), ACCESS (default_permissions), LSEEK, locks, ioctls, poll, fsync, statx.
    default:
      error = ENOSYS;
  }
  if (error != 0)
    sendError(header, body, error, worker.startedNs);
  else
    send(header, body, worker.reply.get(), output.length(), worker.startedNs);
}

void Session::init(Worker& worker, const fuse_in_header& header, Bytes body) {
  // Up to 7.35 the request ends behind `flags`.
  fuse_init_in in{};
  constexpr size_t shortBytes = 16;
  if (body.size() < shortBytes) return sendError(header, body, EINVAL, worker.startedNs);
  std::memcpy(&in, body.data(), std::min(body.size(), sizeof(in)));
  Output output(worker.reply.get() + headerBytes, worker.replyBytes - headerBytes);
  fuse_init_out out{};
  out.major = protocolMajor;
  out.minor = protocolMinorMax;
  if (in.major > protocolMajor) {
    // The kernel asks again in our major version.
    output.append(out);
    return send(header, body, worker.reply.get(), output.length(), worker.startedNs);
  }
  if (in.major < protocolMajor || in.minor < protocolMinorMin) {
    events_.push(EventKind::refused, in.minor);
    return sendError(header, body, EPROTO, worker.startedNs);
  }
  const uint64_t offered = in.flags | ((in.flags & flagInitExtended) != 0 ? uint64_t{in.flags2} << 32 : 0);
  // No FUSE_EXPORT_SUPPORT: overlayfs keeps the handle of a file that it has copied up (trusted.overlay.origin), and when the same upper comes back on
  // another mount it would turn that into a node without a name, which FUSE cannot revalidate: writing such a file fails with ESTALE.
  // No FUSE_ASYNC_DIO: a reader with O_DIRECT would wait for its read where no signal reaches it, SIGKILL included.
  const uint64_t wanted = FUSE_ASYNC_READ | FUSE_DO_READDIRPLUS | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_ABORT_ERROR |
                          flagInitExtended | flagNoExportSupport | flagHasResend | flagAllowIdmap;
  const uint64_t agreed = offered & wanted;
  out.minor = std::min(in.minor, protocolMinorMax);
  out.max_readahead = in.max_readahead;
  out.flags = static_cast<uint32_t>(agreed);
  out.flags2 = static_cast<uint32_t>(agreed >> 32);
  out.max_background = backgroundRequestsMax;
  out.congestion_threshold = congestionThreshold;
  out.max_write = writeBytesMax;
  out.time_gran = 1;
  out.max_pages = ReplyPipe::readPagesMax();
  {
    std::lock_guard lock(initMutex_);
    init_ = InitResult{1, out.minor, agreed};
  }
  isInitialized_.store(true);
  output.append(out);
  send(header, body, worker.reply.get(), output.length(), worker.startedNs);
  events_.push(EventKind::initialized, out.minor);
}

// A request that is not FUSE_INIT comes only when that has been answered: by a server that had no time to tell.
void Session::assumeInitialized() {
  if (isInitialized_.exchange(true)) return;
  const InitResult unknown = InitResult::unknown();
  {
    std::lock_guard lock(initMutex_);
    init_ = unknown;
  }
  events_.push(EventKind::initialized, unknown.minor);
}

std::optional<InitResult> Session::initResult() const {
  std::lock_guard lock(initMutex_);
  return init_;
}

bool Session::resend() {
  const auto init = initResult();
  // Nothing agreed yet: a server that died before it answered FUSE_INIT may have read it.
  if (init && (init->flags & flagHasResend) == 0) return false;
  fuse_out_header message{};
  message.len = sizeof(message);
  message.error = notifyResend;
  return ::write(fd_.get(), &message, sizeof(message)) == sizeof(message);
}

void Session::attach(uint32_t layer, std::shared_ptr<CachedLayer> cache) {
  if (layer < layers_.size()) layers_[layer].store(std::move(cache));
}

// A reply that the kernel does not take (ENOENT: nobody waits for it any more; ENODEV: unmounted) has no further use.
void Session::send(const fuse_in_header& header, Bytes body, uint8_t* reply, size_t length, uint64_t startedNs) {
  fuse_out_header out{};
  out.len = static_cast<uint32_t>(headerBytes + length);
  out.unique = header.unique;
  std::memcpy(reply, &out, sizeof(out));
  (void)!::write(fd_.get(), reply, out.len);
  trace(header, body, 0, length, startedNs);
}

void Session::sendError(const fuse_in_header& header, Bytes body, int error, uint64_t startedNs) {
  fuse_out_header out{};
  out.len = sizeof(out);
  out.error = -error;
  out.unique = header.unique;
  (void)!::write(fd_.get(), &out, sizeof(out));
  trace(header, body, error, 0, startedNs);
}

void Session::trace(const fuse_in_header& header, Bytes body, int error, size_t length, uint64_t startedNs) const {
  if (!options_.trace) return;
  const std::string line = traceLine(options_.label, header, body, error, length, nowNs() - startedNs);
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

std::string Session::describe() {
  const uint64_t now = nowNs();
  const auto ms = [&](uint64_t since) { return std::to_string((now - since) / 1'000'000) + " ms"; };
  std::string text;
  size_t idle = 0;
  for (const auto& worker : workers_) {
    const uint32_t opcode = worker->busyWith.load(std::memory_order_relaxed);
    if (opcode == 0)
      idle++;
    else
      text += "  thread: " + std::string(operationName(opcode)) + " for " +
              ms(worker->busySinceNs.load(std::memory_order_relaxed)) + "\n";
  }
  text = "  threads: " + std::to_string(workers_.size()) + ", " + std::to_string(idle) + " idle\n" + text;
  SpanWaits::State state = waits_.state();
  text += "  waiting requests: " + std::to_string(state.reads.size()) + "\n";
  // The oldest first, and no more than a screenful: what is wedged is among them.
  constexpr size_t linesMax = 20;
  std::sort(state.reads.begin(), state.reads.end(), [](const auto& a, const auto& b) { return a->startedNs < b->startedNs; });
  for (size_t i = 0; i < std::min(linesMax, state.reads.size()); i++) {
    const PendingRead& read = *state.reads[i];
    text += "    read ino " + std::to_string(read.header.nodeid) + ", " + std::to_string(read.length) + " bytes at " +
            std::to_string(read.offset) + ", pid " + std::to_string(read.header.pid) + ", waiting " + ms(read.startedNs) + "\n";
  }
  text += "  spans in flight: " + std::to_string(state.spans.size()) + "\n";
  for (size_t i = 0; i < std::min(linesMax, state.spans.size()); i++)
    text += "    span " + std::to_string(state.spans[i].span) + ", " + std::to_string(state.spans[i].readers) + " readers\n";
  return text;
}

}  // namespace skim::fuse
