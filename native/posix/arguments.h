// Paths and names as system calls take them: bytes ended by NUL.

#pragma once

#include <cerrno>
#include <string>

#include "guard.h"

namespace skim {

// A NUL inside would make the kernel see another, shorter path: EINVAL, reported as of `syscall`.
inline std::string withoutNul(std::string text, const char* syscall) {
  if (text.find('\0') != std::string::npos) throw systemError(EINVAL, syscall, text);
  return text;
}

inline std::string bytesTextArgument(const Napi::CallbackInfo& info, size_t position, const char* syscall) {
  const Bytes bytes = view(bytesArgument(info, position));
  return withoutNul(std::string(bytes.begin(), bytes.end()), syscall);
}

// A JavaScript string, as UTF-8.
inline std::string textArgument(const Napi::CallbackInfo& info, size_t position, const char* syscall) {
  if (!info[position].IsString()) throw wrongArgument(position, "a string");
  return withoutNul(info[position].As<Napi::String>().Utf8Value(), syscall);
}

}  // namespace skim
