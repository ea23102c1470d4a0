// skim-holder: what must outlive every server. `skim-holder DIR` keeps connections (holder.h), `skim-holder --mounter` makes system calls (mounter.h).
//
// A holder listens on DIR/holder.sock. Two that are started for one directory at the same time end in one: a lock on one byte of DIR/holder.lock is held while it lives, and
// one on another byte while it begins. Who finds the first one taken has waited for the second: another holder listens, and this one ends. In both cases "ready" is
// written to standard output.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "holder/holder.h"
#include "holder/log.h"
#include "holder/mounter.h"

namespace skim::holder {
namespace {

constexpr const char* socketName = "holder.sock";
constexpr const char* lockName = "holder.lock";
constexpr off_t byteOfLife = 0;
constexpr off_t byteOfBeginning = 1;

// Locks of open file descriptions: they end with the last copy of the descriptor, and closing another one changes nothing.
bool lockByte(int fd, off_t byte, short type, bool waits) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  int result;
  do {
    result = fcntl(fd, waits ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

int fail(const char* syscall, const char* directory) {
  log(Level::error, "the holder cannot begin",
      "\"syscall\":" + quoted(syscall) + ",\"error\":" + quoted(errorName(errno)) + ",\"directory\":" + quoted(directory));
  return 1;
}

// In the current directory: the address has no room for a long path.
UniqueFd listenHere() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, socketName);
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // Nobody listens on one that is there: its holder would have the lock.
  unlink(socketName);
  const mode_t before = umask(0177);
  const bool isBound = bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  umask(before);
  if (!isBound || listen(socket.get(), SOMAXCONN) != 0) return UniqueFd();
  return socket;
}

void sayReady() {
  (void)!write(STDOUT_FILENO, "ready\n", 6);
  const UniqueFd nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  dup2(nothing.get(), STDIN_FILENO);
  dup2(nothing.get(), STDOUT_FILENO);
}

int hold(const char* directory) {
  Inherited inherited;
  UniqueFd signals = becomeHolder(inherited);
  if (chdir(directory) != 0) return fail("chdir", directory);
  const UniqueFd lock(open(lockName, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock.get() < 0) return fail("open", directory);
  if (!lockByte(lock.get(), byteOfBeginning, F_WRLCK, true)) return fail("fcntl", directory);
  if (!lockByte(lock.get(), byteOfLife, F_WRLCK, false)) {
    sayReady();
    return 0;
  }
  UniqueFd listener = listenHere();
  if (listener.get() < 0) return fail("listen", directory);
  const UniqueFd here(open(".", O_PATH | O_CLOEXEC));
  (void)!chdir("/");
  lockByte(lock.get(), byteOfBeginning, F_UNLCK, false);
  log(Level::info, "the holder has begun", "\"directory\":" + quoted(directory));
  sayReady();
  Holder(std::move(listener), std::move(signals), std::move(inherited)).run();
  log(Level::info, "the holder ends");
  unlinkat(here.get(), socketName, 0);
  return 0;
}

}  // namespace
}  // namespace skim::holder

int main(int count, char** words) {
  using namespace skim::holder;
  try {
    if (count == 2 && std::strcmp(words[1], "--mounter") == 0) return runMounter();
    if (count == 2 && words[1][0] == '/') return hold(words[1]);
  } catch (const std::exception& error) {
    log(Level::error, "the holder fails", "\"error\":" + quoted(error.what()));
    return 1;
  }
  fputs("usage: skim-holder DIR | skim-holder --mounter\n", stderr);
  return 2;
}
