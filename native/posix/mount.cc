// mount(2) and umount2(2), on the thread pool: both can wait for a filesystem server, and that may be this process.

#include <sys/mount.h>
#include <unistd.h>

#include "pool-call.h"
#include "posix/arguments.h"
#include "posix/bindings.h"

namespace skim {
namespace {

// What a call that only succeeds or fails gives back.
struct Nothing {};

Napi::Value undefined(Napi::Env env, Nothing&) { return env.Undefined(); }

}  // namespace

Napi::Value mountFilesystem(const Napi::CallbackInfo& info) {
  std::string source = textArgument(info, 0, "mount");
  std::string target = textArgument(info, 1, "mount");
  std::string type = textArgument(info, 2, "mount");
  const auto flags = static_cast<unsigned long>(integerArgument(info, 3, 0, UINT32_MAX));
  std::string data = textArgument(info, 4, "mount");
  auto work = [=] {
    // The kernel copies one page of data, and puts a NUL at its end whatever stood there (copy_mount_options in fs/namespace.c).
    if (data.size() >= static_cast<size_t>(sysconf(_SC_PAGESIZE))) throw systemError(EINVAL, "mount", target);
    if (::mount(source.c_str(), target.c_str(), type.c_str(), flags, data.c_str()) != 0)
      throw systemError(errno, "mount", target);
    return Nothing{};
  };
  return PoolCall<Nothing>::start(info.Env(), {}, std::move(work), undefined);
}

Napi::Value unmountFilesystem(const Napi::CallbackInfo& info) {
  std::string target = textArgument(info, 0, "umount2");
  const auto flags = static_cast<int>(integerArgument(info, 1, 0, INT32_MAX));
  auto work = [=] {
    if (::umount2(target.c_str(), flags) != 0) throw systemError(errno, "umount2", target);
    return Nothing{};
  };
  return PoolCall<Nothing>::start(info.Env(), {}, std::move(work), undefined);
}

}  // namespace skim
