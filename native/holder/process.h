// Processes as the holder sees them: named by a pidfd, so that no signal reaches one that has the number of another; started with what a server is to have.

#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "unique-fd.h"

namespace skim::holder {

// What this process was started with and changes for itself, and gives back to those that it starts.
struct Inherited {
  std::string oomScore;
  unsigned long filesSoft = 0;
};

// Makes this process what must not die: the last that runs out of memory, of a session of its own, in "/", without anything open but 0, 1 and 2, deaf to SIGHUP, SIGINT
// and SIGPIPE. Returns a signalfd of SIGCHLD and SIGTERM.
UniqueFd becomeHolder(Inherited& inherited);

// How a server is started again.
struct Command {
  std::string file;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::string logFile;
};

struct Process {
  pid_t pid = 0;
  // Readable when it has died. None where it was dead before it was opened.
  UniqueFd handle;
};

// Of a process that is there.
Process openProcess(pid_t pid);
void killProcess(const Process& process);

// A child that runs `work` and ends with what it returns, with default signals. pid is -1 where that fails, with errno set.
pid_t startChild(const std::function<int()>& work);

// A child that runs a command, with the limits and signals that this process was started with. Its output goes to the log file. pid is -1 where that fails.
Process startCommand(const Command& command, const Inherited& inherited);

}  // namespace skim::holder
