// Failures of the C++ side, before they are JavaScript errors.
//
// Code below the boundary throws CodedError and knows nothing of JavaScript; guard.h and pool-call.h turn it into an Error
// with `code` (and `errno`, `syscall` and `path` where a system call failed, as node's own errors have them).

#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace skim {

class CodedError : public std::runtime_error {
 public:
  CodedError(std::string code, const std::string& message) : std::runtime_error(message), code(std::move(code)) {}

  std::string code;
  int number = 0;       // errno, 0 where no system call failed
  std::string syscall;  // empty where no system call failed
  std::string path;
};

// The error of a system call that left `number` in errno.
CodedError systemError(int number, const char* syscall, const std::string& path = {});

// A call that breaks the contract of binding.ts: a mistake of the TypeScript side, never of its input.
inline CodedError misuse(const std::string& sentence) { return CodedError("ERR_INVALID_STATE", sentence); }

inline CodedError outOfMemory() { return CodedError("ENOMEM", "ENOMEM: not enough memory in the native addon"); }

}  // namespace skim
