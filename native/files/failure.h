// A request that fails: the errno, and what was being done, for the one line that a person reads.

#pragma once

#include <cerrno>
#include <string>
#include <utility>

namespace skim::files {

struct Failure {
  int number;
  std::string what;
};

// Of the system call that has just failed.
inline Failure failed(std::string what) { return {errno, std::move(what)}; }

// The other side is gone, or a signal ends this program: what is half done is undone on the way out.
struct Stopped {};

}  // namespace skim::files
