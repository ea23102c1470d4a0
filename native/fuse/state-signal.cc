#include "fuse/state-signal.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <thread>

#include "errors.h"
#include "fuse/session.h"

namespace skim::fuse {
namespace {

struct Listed {
  std::mutex mutex;
  std::map<Session*, std::string> sessions;
  // The handler writes to it, the thread reads from it.
  int pipe[2] = {-1, -1};
};

// Never destroyed: threads use it while the process ends.
Listed& listed() {
  static Listed& instance = *new Listed;
  return instance;
}

int writeEnd = -1;

void onSignal(int) {
  const int saved = errno;
  (void)!write(writeEnd, "", 1);
  errno = saved;
}

void printStates() {
  Listed& all = listed();
  char byte;
  for (;;) {
    const ssize_t got = read(all.pipe[0], &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    std::lock_guard lock(all.mutex);
    std::string text = "skim: " + std::to_string(all.sessions.size()) + " FUSE sessions of the native engine\n";
    for (const auto& [session, label] : all.sessions) text += label + "\n" + session->describe();
    (void)!write(STDERR_FILENO, text.data(), text.size());
  }
}

}  // namespace

void addSession(Session* session, const std::string& label) {
  std::lock_guard lock(listed().mutex);
  listed().sessions.emplace(session, label);
}

void removeSession(Session* session) {
  std::lock_guard lock(listed().mutex);
  listed().sessions.erase(session);
}

void printStateOn(int signal) {
  Listed& all = listed();
  {
    std::lock_guard lock(all.mutex);
    if (all.pipe[0] < 0) {
      // The writing end does not block: a signal that comes while a thousand wait changes nothing.
      if (pipe2(all.pipe, O_CLOEXEC) != 0) throw systemError(errno, "pipe2");
      fcntl(all.pipe[1], F_SETFL, O_NONBLOCK);
      writeEnd = all.pipe[1];
      std::thread(printStates).detach();
    }
  }
  struct sigaction action {};
  action.sa_handler = onSignal;
  action.sa_flags = SA_RESTART;
  if (sigaction(signal, &action, nullptr) != 0) throw systemError(errno, "sigaction");
}

}  // namespace skim::fuse
