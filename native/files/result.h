// How each request ends: 'r', with errno (0: it was done) and what was being done when it failed.

#pragma once

#include <string>

#include "files/failure.h"
#include "files/frames.h"

namespace skim::files {

struct Result {
  int number = 0;
  std::string what;

  static Result of(const Failure& failure) { return {failure.number, failure.what}; }
  bool isFine() const { return number == 0; }
  void send() const { writeFrame('r', Payload().u32(static_cast<uint32_t>(number)).rest(what).text()); }
};

}  // namespace skim::files
