#include "holder/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "holder/log.h"

namespace skim::holder {
namespace {

constexpr const char* oomScoreFile = "/proc/self/oom_score_adj";

std::string readText(const char* file) {
  const UniqueFd fd(open(file, O_RDONLY | O_CLOEXEC));
  char text[32];
  const ssize_t got = fd.get() < 0 ? 0 : read(fd.get(), text, sizeof(text));
  return got > 0 ? std::string(text, static_cast<size_t>(got)) : std::string();
}

void writeText(const char* file, const std::string& text) {
  const UniqueFd fd(open(file, O_WRONLY | O_CLOEXEC));
  if (fd.get() >= 0) (void)!write(fd.get(), text.data(), text.size());
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (const std::string& string : strings) list.push_back(const_cast<char*>(string.c_str()));
  list.push_back(nullptr);
  return list;
}

}  // namespace

UniqueFd becomeHolder(Inherited& inherited) {
  // Fails where this is the leader of one already.
  setsid();
  close_range(3, ~0u, 0);
  (void)!chdir("/");
  inherited.oomScore = readText(oomScoreFile);
  // Takes CAP_SYS_RESOURCE. Without it, it is as it was.
  writeText(oomScoreFile, "-1000");
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    inherited.filesSoft = files.rlim_cur;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  for (const int ignored : {SIGHUP, SIGINT, SIGPIPE}) signal(ignored, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_SETMASK, &signals, nullptr);
  return UniqueFd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

Process openProcess(pid_t pid) { return {pid, UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)))}; }

void killProcess(const Process& process) {
  if (process.handle.get() >= 0) syscall(SYS_pidfd_send_signal, process.handle.get(), SIGKILL, nullptr, 0);
}

pid_t startChild(const std::function<int()>& work) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  for (const int ignored : {SIGHUP, SIGINT, SIGPIPE}) signal(ignored, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  _exit(work());
}

Process startCommand(const Command& command, const Inherited& inherited) {
  std::vector<std::string> words{command.file};
  words.insert(words.end(), command.arguments.begin(), command.arguments.end());
  const pid_t pid = startChild([&] {
    setsid();
    if (!inherited.oomScore.empty()) writeText(oomScoreFile, inherited.oomScore);
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
      files.rlim_cur = inherited.filesSoft;
      setrlimit(RLIMIT_NOFILE, &files);
    }
    const int nothing = open("/dev/null", O_RDWR);
    int output = command.logFile.empty() ? -1 : open(command.logFile.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (output < 0) output = STDERR_FILENO;
    dup2(nothing, 0);
    dup2(output, 1);
    dup2(output, 2);
    close_range(3, ~0u, 0);
    execve(command.file.c_str(), pointers(words).data(), pointers(command.environment).data());
    log(Level::error, "the server cannot be started", "\"file\":" + quoted(command.file) + ",\"error\":" + quoted(errorName(errno)));
    return 127;
  });
  if (pid < 0) return {};
  return openProcess(pid);
}

}  // namespace skim::holder
