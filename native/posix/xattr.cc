// Extended attributes of a path itself, never of what a symlink there points to.

#include <sys/xattr.h>

#include <vector>

#include "posix/arguments.h"
#include "posix/bindings.h"

namespace skim {
namespace {

// Reads what `call(buffer, size)` gives, whose size must be asked for first and may grow in between. Returns false where
// it fails, with errno set.
template <typename Call>
bool readSized(Call call, std::vector<uint8_t>& out) {
  for (;;) {
    const ssize_t size = call(nullptr, 0);
    if (size < 0) return false;
    out.resize(static_cast<size_t>(size));
    if (size == 0) return true;
    const ssize_t got = call(out.data(), out.size());
    if (got >= 0) {
      out.resize(static_cast<size_t>(got));
      return true;
    }
    if (errno != ERANGE) return false;
  }
}

Napi::Value toUint8Array(Napi::Env env, const std::vector<uint8_t>& bytes) {
  auto array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

}  // namespace

Napi::Value getXattr(const Napi::CallbackInfo& info) {
  const std::string path = bytesTextArgument(info, 0, "lgetxattr");
  const std::string name = bytesTextArgument(info, 1, "lgetxattr");
  std::vector<uint8_t> value;
  if (readSized([&](void* out, size_t size) { return lgetxattr(path.c_str(), name.c_str(), out, size); }, value))
    return toUint8Array(info.Env(), value);
  if (errno == ENODATA) return info.Env().Null();
  throw systemError(errno, "lgetxattr", path);
}

Napi::Value setXattr(const Napi::CallbackInfo& info) {
  const std::string path = bytesTextArgument(info, 0, "lsetxattr");
  const std::string name = bytesTextArgument(info, 1, "lsetxattr");
  const Bytes value = view(bytesArgument(info, 2));
  if (lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) != 0) throw systemError(errno, "lsetxattr", path);
  return info.Env().Undefined();
}

Napi::Value listXattr(const Napi::CallbackInfo& info) {
  const std::string path = bytesTextArgument(info, 0, "llistxattr");
  std::vector<uint8_t> names;
  if (readSized([&](void* out, size_t size) { return llistxattr(path.c_str(), static_cast<char*>(out), size); }, names))
    return toUint8Array(info.Env(), names);
  throw systemError(errno, "llistxattr", path);
}

}  // namespace skim
