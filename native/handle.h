// Opaque objects that JavaScript holds: a C++ resource, whose memory it uses, and whether a pool call uses it now.
//
// The garbage collector frees a handle; V8 is told roughly how much memory hangs on it, because the object it sees has no
// size of its own. All members are touched on the JavaScript thread, except `resource`, which a pool call owns
// while `busy` is set.

#pragma once

#include <napi.h>

#include <deque>
#include <memory>
#include <utility>

#include "errors.h"
#include "guard.h"

namespace skim {

template <typename Resource>
struct Handle {
  // Specialised beside each resource: what distinguishes its handles from all others, and their share of memory.
  static const napi_type_tag typeTag;
  static const int64_t memoryBytes;

  explicit Handle(std::unique_ptr<Resource> resource) : resource(std::move(resource)) {}

  std::unique_ptr<Resource> resource;
  std::deque<Napi::ObjectReference> kept;  // objects whose memory it uses, such as pieces of input
  bool busy = false;

  static Napi::Value wrap(Napi::Env env, std::unique_ptr<Resource> resource) {
    auto handle = std::make_unique<Handle>(std::move(resource));
    auto external = Napi::External<Handle>::New(env, handle.get(), [](Napi::Env env, Handle* old) {
      Napi::MemoryManagement::AdjustExternalMemory(env, -memoryBytes);
      delete old;
    });
    handle.release();
    Napi::MemoryManagement::AdjustExternalMemory(env, memoryBytes);
    external.TypeTag(&typeTag);
    return external;
  }

  // The handle in an argument, the first one unless said otherwise, which no pool call may be using.
  static Handle& from(const Napi::CallbackInfo& info, const char* expected, size_t position = 0) {
    if (!info[position].IsExternal()) throw wrongArgument(position, expected);
    auto external = info[position].As<Napi::External<Handle>>();
    if (!external.CheckTypeTag(&typeTag)) throw wrongArgument(position, expected);
    Handle& handle = *external.Data();
    if (handle.busy) throw misuse("a call on this handle is still under way");
    return handle;
  }
};

// A reference that keeps `value` from being collected.
inline Napi::ObjectReference keepAlive(const Napi::Value& value) { return Napi::Persistent(value.As<Napi::Object>()); }

}  // namespace skim
