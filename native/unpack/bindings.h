// The exports of unpack/, as src/native/binding.ts documents them.

#pragma once

#include <napi.h>

namespace skim {

Napi::Value treeWriterOpen(const Napi::CallbackInfo& info);
Napi::Value treeWriterRun(const Napi::CallbackInfo& info);
Napi::Value treeWriterClose(const Napi::CallbackInfo& info);
Napi::Value stageBytes(const Napi::CallbackInfo& info);
Napi::Value exchangeNames(const Napi::CallbackInfo& info);

}  // namespace skim
