// One call that runs on libuv's thread pool and settles a Promise.
//
// `work` runs on a pool thread and must not touch JavaScript. `settle` runs on the JavaScript thread afterwards and makes the value the
// Promise resolves to; it is not called if `work` threw. `finished` runs on the JavaScript thread in both cases, before the Promise
// settles. `keep` holds objects whose memory `work` uses: they are not collected before the call has settled.

#pragma once

#include <napi.h>

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "errors.h"
#include "guard.h"

namespace skim {

template <typename Result>
class PoolCall final : public Napi::AsyncWorker {
 public:
  using Work = std::function<Result()>;
  using Settle = std::function<Napi::Value(Napi::Env, Result&)>;

  static Napi::Promise start(Napi::Env env, std::vector<Napi::ObjectReference> keep, Work work, Settle settle,
                             std::function<void()> finished = [] {}) {
    // Deletes itself after OnOK, as every AsyncWorker does.
    auto* call = new PoolCall(env, std::move(keep), std::move(work), std::move(settle), std::move(finished));
    Napi::Promise promise = call->deferred_.Promise();
    call->Queue();
    return promise;
  }

 private:
  PoolCall(Napi::Env env, std::vector<Napi::ObjectReference> keep, Work work, Settle settle, std::function<void()> finished)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        keep_(std::move(keep)),
        work_(std::move(work)),
        settle_(std::move(settle)),
        finished_(std::move(finished)) {}

  void Execute() override {
    try {
      result_.emplace(work_());
    } catch (const CodedError& error) {
      error_ = error;
    } catch (const std::bad_alloc&) {
      error_ = outOfMemory();
    } catch (const std::exception& error) {
      error_ = CodedError("INTERNAL", error.what());
    }
  }

  void OnOK() override {
    finished_();
    if (error_) {
      deferred_.Reject(toJsError(Env(), *error_).Value());
      return;
    }
    try {
      deferred_.Resolve(settle_(Env(), *result_));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }

  Napi::Promise::Deferred deferred_;
  std::vector<Napi::ObjectReference> keep_;
  Work work_;
  Settle settle_;
  std::function<void()> finished_;
  std::optional<Result> result_;
  std::optional<CodedError> error_;
};

}  // namespace skim
