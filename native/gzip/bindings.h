// The exports of gzip/, as src/native/binding.ts documents them.

#pragma once

#include <napi.h>

#include <functional>

#include "gzip/span-record.h"

namespace skim {

Napi::Value scannerOpen(const Napi::CallbackInfo& info);
Napi::Value scannerWrite(const Napi::CallbackInfo& info);
Napi::Value scannerRead(const Napi::CallbackInfo& info);
Napi::Value scannerFinish(const Napi::CallbackInfo& info);

Napi::Value decoderOpen(const Napi::CallbackInfo& info);
Napi::Value decoderWrite(const Napi::CallbackInfo& info);
Napi::Value decoderReady(const Napi::CallbackInfo& info);
Napi::Value decoderNext(const Napi::CallbackInfo& info);

// decoderNext with somebody who takes a complete span on the pool's thread: where `store` is true, the call resolves to true instead of the bytes,
// unless they are to be kept as well.
using StoreSpan = std::function<bool(Bytes)>;
Napi::Value decodeAndStore(const Napi::CallbackInfo& info, StoreSpan store, bool keep);

}  // namespace skim
