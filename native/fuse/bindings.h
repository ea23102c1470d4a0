// The exports of fuse/, as src/native/binding.ts documents them.

#pragma once

#include <napi.h>

namespace skim {

Napi::Value treeOpen(const Napi::CallbackInfo& info);

Napi::Value cacheOpen(const Napi::CallbackInfo& info);
Napi::Value cacheVerified(const Napi::CallbackInfo& info);
Napi::Value cacheUsed(const Napi::CallbackInfo& info);
Napi::Value cacheVerifyAhead(const Napi::CallbackInfo& info);
Napi::Value cacheClose(const Napi::CallbackInfo& info);
Napi::Value decoderNextStored(const Napi::CallbackInfo& info);

Napi::Value sessionStart(const Napi::CallbackInfo& info);
Napi::Value sessionAttach(const Napi::CallbackInfo& info);
Napi::Value sessionLanded(const Napi::CallbackInfo& info);
Napi::Value sessionFailed(const Napi::CallbackInfo& info);
Napi::Value sessionResend(const Napi::CallbackInfo& info);
Napi::Value sessionRelease(const Napi::CallbackInfo& info);
Napi::Value sessionInitResult(const Napi::CallbackInfo& info);
Napi::Value sessionCounters(const Napi::CallbackInfo& info);
Napi::Value sessionDescribe(const Napi::CallbackInfo& info);
Napi::Value operationNameOf(const Napi::CallbackInfo& info);
Napi::Value printSessionsOn(const Napi::CallbackInfo& info);

}  // namespace skim
