// skim-files: reads and writes files below a container's root for skim, which starts it on the host. See native/README.md, "skim-files".
//
//   skim-files --token HEX --pid PID --start TICKS     in the mount namespace of that process
//   skim-files --token HEX --descriptor N              below the directory that is open as N
//   skim-files --token HEX --inside                    below its own root: started by the runtime inside of a sandbox
//
// It is one static, single-threaded program that loads nothing and executes nothing.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files/failure.h"
#include "files/frames.h"
#include "files/look.h"
#include "files/put.h"
#include "files/root.h"

namespace {

using namespace skim::files;

constexpr uint32_t protocolVersion = 2;

struct Arguments {
  std::string token;
  pid_t pid = 0;
  unsigned long long startTicks = 0;
  int descriptor = -1;
  bool isInside = false;
};

Arguments parseArguments(int count, char** values) {
  Arguments arguments;
  for (int i = 1; i < count; i++) {
    const std::string name = values[i];
    if (name == "--inside") {
      arguments.isInside = true;
      continue;
    }
    if (i + 1 == count) throw Failure{EINVAL, "reading option " + name};
    const char* value = values[++i];
    if (name == "--token") {
      arguments.token = value;
    } else if (name == "--pid") {
      arguments.pid = std::atoi(value);
    } else if (name == "--start") {
      arguments.startTicks = std::strtoull(value, nullptr, 10);
    } else if (name == "--descriptor") {
      arguments.descriptor = std::atoi(value);
    } else {
      throw Failure{EINVAL, "reading option " + name};
    }
  }
  if (arguments.token.empty() || arguments.token.find('/') != std::string::npos) throw Failure{EINVAL, "reading the token"};
  return arguments;
}

// Of all that root may do, what files of any owner take.
void dropCapabilities() {
  constexpr unsigned kept[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID};
  uint32_t mask = 0;
  for (const unsigned capability : kept) mask |= 1u << capability;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {{mask, mask, 0}, {0, 0, 0}};
  if (syscall(SYS_capset, &header, data) != 0) throw failed("dropping capabilities");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) throw failed("giving up new privileges");
}

Root openRoot(const Arguments& arguments) {
  if (arguments.isInside) return Root::inside();
  Root root = arguments.descriptor >= 0 ? Root::ofDescriptor(arguments.descriptor)
                                        : Root::ofProcess(arguments.pid, arguments.startTicks);
  dropCapabilities();
  return root;
}

// Ends the system call that waits, and so the program, by way of everything that has to be undone.
void endOnSignals() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaction(signal, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

// A level of directories takes one.
void allowManyDescriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void serve(Root& root, const std::string& token) {
  for (;;) {
    const Frame frame = readFrame();
    switch (frame.type) {
      case 'H': root.hide(frame.payload); break;
      case 'P': put(root, frame.payload, token); break;
      case 'T': tidy(root, frame.payload, token); break;
      case 'G': sendTree(root, frame.payload); break;
      case 'L': sendList(root, frame.payload); break;
      case 'S': sendStat(root, frame.payload); break;
      case 'R': removeTree(root, frame.payload); break;
      default: throw Stopped{};
    }
  }
}

}  // namespace

int main(int count, char** values) {
  endOnSignals();
  umask(0);
  allowManyDescriptors();
  try {
    try {
      const Arguments arguments = parseArguments(count, values);
      Root root = openRoot(arguments);
      writeFrame('h', Payload().u32(protocolVersion).text());
      serve(root, arguments.token);
    } catch (const Failure& failure) {
      // Before the first request: there is nothing to be seen or written.
      writeFrame('x', Payload().u32(static_cast<uint32_t>(failure.number)).rest(failure.what).text());
      return 1;
    }
  } catch (const Stopped&) {
    return 0;
  }
}
