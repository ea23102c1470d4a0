#include "holder/mounter.h"

#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "holder/log.h"
#include "unique-fd.h"

namespace skim::holder {
namespace {

// Two paths and a page of options, and some.
constexpr uint32_t requestBytesMax = 32 * 1024;

struct Child {
  pid_t pid;
  std::string number;
};

// One write(2), so that answers of several children do not mix.
void answer(const std::string& line) { (void)!write(STDOUT_FILENO, line.data(), line.size()); }

void answerError(const std::string& number, int error) {
  const char* meaning = strerrordesc_np(error);
  answer(number + " " + std::to_string(error) + " " + errorName(error) + " " + (meaning ? meaning : "unknown error") + "\n");
}

// mount(2) copies one page of data, and puts a NUL at its end whatever stood there.
int mountChecked(const std::vector<std::string>& fields) {
  if (fields[6].size() >= static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    errno = EINVAL;
    return -1;
  }
  return mount(fields[2].c_str(), fields[3].c_str(), fields[4].c_str(), strtoul(fields[5].c_str(), nullptr, 10), fields[6].c_str());
}

// In a child. Fields: number, operation, arguments.
void carryOut(const std::vector<std::string>& fields) {
  const std::string& number = fields[0];
  const std::string& operation = fields[1];
  int result = -1;
  std::string found;
  errno = EINVAL;
  if (operation == "mount" && fields.size() == 7) {
    result = mountChecked(fields);
  } else if (operation == "umount" && fields.size() == 4) {
    result = umount2(fields[2].c_str(), static_cast<int>(strtol(fields[3].c_str(), nullptr, 10)));
  } else if (operation == "stat" && fields.size() == 3) {
    struct stat status;
    result = stat(fields[2].c_str(), &status);
    if (result == 0)
      found = " " + std::to_string(status.st_dev) + " " + std::to_string(status.st_ino) + " " + std::to_string(status.st_mode);
  }
  if (result != 0) return answerError(number, errno);
  answer(number + " 0" + found + "\n");
}

void start(const std::vector<std::string>& fields, std::vector<Child>& children) {
  const pid_t pid = fork();
  if (pid < 0) return answerError(fields[0], errno);
  if (pid > 0) return children.push_back({pid, fields[0]});
  // A child that hangs must not keep anything open that others wait for the end of, but what it answers on.
  close(STDIN_FILENO);
  close_range(3, ~0u, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  carryOut(fields);
  _exit(0);
}

// Children that were killed have answered nothing.
void reap(std::vector<Child>& children, int flags) {
  int status;
  for (pid_t pid = waitpid(-1, &status, flags); pid > 0; pid = waitpid(-1, &status, flags))
    std::erase_if(children, [&](const Child& child) {
      if (child.pid != pid) return false;
      if (!WIFEXITED(status)) answerError(child.number, EINTR);
      return true;
    });
}

std::vector<std::string> fieldsOf(std::string_view request) {
  std::vector<std::string> fields;
  while (!request.empty()) {
    const size_t end = request.find('\0');
    if (end == std::string_view::npos) return {};
    fields.emplace_back(request.substr(0, end));
    request.remove_prefix(end + 1);
  }
  return fields;
}

// Starts what is complete in `pending` and takes it out. False for what is no request.
bool startAll(std::string& pending, std::vector<Child>& children) {
  uint32_t length;
  while (pending.size() >= sizeof(length)) {
    std::memcpy(&length, pending.data(), sizeof(length));
    if (length > requestBytesMax) return false;
    if (pending.size() < sizeof(length) + length) return true;
    const auto fields = fieldsOf(std::string_view(pending).substr(sizeof(length), length));
    if (fields.size() < 2) return false;
    start(fields, children);
    pending.erase(0, sizeof(length) + length);
  }
  return true;
}

}  // namespace

int runMounter() {
  for (const int ignored : {SIGHUP, SIGINT, SIGPIPE}) signal(ignored, SIG_IGN);
  close_range(3, ~0u, 0);
  (void)!chdir("/");
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_SETMASK, &signals, nullptr);
  const UniqueFd ended(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  std::vector<Child> children;
  std::string pending;
  for (;;) {
    pollfd polled[] = {{STDIN_FILENO, POLLIN, 0}, {ended.get(), POLLIN, 0}};
    if (poll(polled, 2, -1) < 0) continue;
    if (polled[1].revents != 0) {
      signalfd_siginfo signal;
      while (read(ended.get(), &signal, sizeof(signal)) == sizeof(signal)) {
      }
      reap(children, WNOHANG);
    }
    if (polled[0].revents == 0) continue;
    char bytes[16 * 1024];
    const ssize_t got = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) break;
    pending.append(bytes, static_cast<size_t>(got));
    if (!startAll(pending, children)) break;
  }
  reap(children, 0);
  return 0;
}

}  // namespace skim::holder
