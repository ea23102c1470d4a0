// System calls on files, made directly on the JavaScript thread; but for punchHole, which may wait for the disk.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "pool-call.h"
#include "posix/arguments.h"
#include "posix/bindings.h"

namespace skim {

Napi::Value tryLock(const Napi::CallbackInfo& info) {
  const auto fd = static_cast<int>(integerArgument(info, 0, 0, INT32_MAX));
  const int operation = (booleanArgument(info, 1) ? LOCK_EX : LOCK_SH) | LOCK_NB;
  if (flock(fd, operation) == 0) return Napi::Boolean::New(info.Env(), true);
  if (errno == EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
  throw systemError(errno, "flock");
}

Napi::Value punchHole(const Napi::CallbackInfo& info) {
  const auto fd = static_cast<int>(integerArgument(info, 0, 0, INT32_MAX));
  const auto offset = static_cast<off_t>(integerArgument(info, 1, 0, safeIntegerMax));
  const auto length = static_cast<off_t>(integerArgument(info, 2, 1, safeIntegerMax));
  auto work = [=]() -> bool {
    while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) != 0) {
      if (errno == EOPNOTSUPP) return false;
      if (errno != EINTR) throw systemError(errno, "fallocate");
    }
    return true;
  };
  return PoolCall<bool>::start(info.Env(), {}, std::move(work),
                               [](Napi::Env env, bool& punched) -> Napi::Value { return Napi::Boolean::New(env, punched); });
}

Napi::Value makeNode(const Napi::CallbackInfo& info) {
  const std::string path = bytesTextArgument(info, 0, "mknod");
  const auto mode = static_cast<mode_t>(integerArgument(info, 1, 0, UINT32_MAX));
  // The kernel's own limits of 12 and 20 bits: mknod(2) would cut larger numbers.
  const auto major = static_cast<unsigned>(integerArgument(info, 2, 0, (1 << 12) - 1));
  const auto minor = static_cast<unsigned>(integerArgument(info, 3, 0, (1 << 20) - 1));
  if (::mknod(path.c_str(), mode, makedev(major, minor)) != 0) throw systemError(errno, "mknod", path);
  return info.Env().Undefined();
}

Napi::Value setTimes(const Napi::CallbackInfo& info) {
  const std::string path = bytesTextArgument(info, 0, "utimensat");
  // Nanoseconds above this would be UTIME_NOW and UTIME_OMIT.
  constexpr int64_t nsecMax = 999'999'999;
  timespec times[2];
  for (size_t i = 0; i < 2; i++) {
    times[i].tv_sec = integerArgument(info, 1 + 2 * i, -safeIntegerMax, safeIntegerMax);
    times[i].tv_nsec = integerArgument(info, 2 + 2 * i, 0, nsecMax);
  }
  if (utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) throw systemError(errno, "utimensat", path);
  return info.Env().Undefined();
}

}  // namespace skim
