// The exports of gzip/, as src/native/binding.ts documents them.

#pragma once

#include <napi.h>

namespace skim {

Napi::Value scannerOpen(const Napi::CallbackInfo& info);
Napi::Value scannerWrite(const Napi::CallbackInfo& info);
Napi::Value scannerRead(const Napi::CallbackInfo& info);
Napi::Value scannerFinish(const Napi::CallbackInfo& info);

Napi::Value decoderOpen(const Napi::CallbackInfo& info);
Napi::Value decoderWrite(const Napi::CallbackInfo& info);
Napi::Value decoderNext(const Napi::CallbackInfo& info);

}  // namespace skim
