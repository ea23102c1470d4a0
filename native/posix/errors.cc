// The errors of system calls, in the shape of node's own.

#include "errors.h"

#include <cstring>

namespace skim {

CodedError systemError(int number, const char* syscall, const std::string& path) {
  const char* name = strerrorname_np(number);
  std::string code = name ? name : "E" + std::to_string(number);
  const char* meaning = strerrordesc_np(number);
  std::string message = code + ": " + (meaning ? meaning : "unknown error") + ", " + syscall;
  if (!path.empty()) message += " '" + path + "'";
  CodedError error(code, message);
  error.number = number;
  error.syscall = syscall;
  error.path = path;
  return error;
}

}  // namespace skim
