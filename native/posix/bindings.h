// The exports of posix/, as src/native/binding.ts documents them: thin system calls that node:fs lacks.

#pragma once

#include <napi.h>

namespace skim {

Napi::Value mountFilesystem(const Napi::CallbackInfo& info);
Napi::Value unmountFilesystem(const Napi::CallbackInfo& info);

Napi::Value socketPair(const Napi::CallbackInfo& info);
Napi::Value duplicateOnto(const Napi::CallbackInfo& info);
Napi::Value receiveDescriptor(const Napi::CallbackInfo& info);
Napi::Value duplicateDescriptor(const Napi::CallbackInfo& info);
Napi::Value isDisconnected(const Napi::CallbackInfo& info);

Napi::Value socketConnect(const Napi::CallbackInfo& info);
Napi::Value socketSend(const Napi::CallbackInfo& info);
Napi::Value socketWatch(const Napi::CallbackInfo& info);
Napi::Value socketClose(const Napi::CallbackInfo& info);

Napi::Value tryLock(const Napi::CallbackInfo& info);
Napi::Value punchHole(const Napi::CallbackInfo& info);
Napi::Value makeNode(const Napi::CallbackInfo& info);
Napi::Value setTimes(const Napi::CallbackInfo& info);

Napi::Value getXattr(const Napi::CallbackInfo& info);
Napi::Value setXattr(const Napi::CallbackInfo& info);
Napi::Value listXattr(const Napi::CallbackInfo& info);

}  // namespace skim
