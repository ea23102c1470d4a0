// The skin between JavaScript and C++: arguments in, exceptions out.

#pragma once

#include <napi.h>

#include <cstdint>
#include <span>

#include "errors.h"

namespace skim {

using Bytes = std::span<const uint8_t>;

// The JavaScript Error for `error`.
inline Napi::Error toJsError(Napi::Env env, const CodedError& error) {
  Napi::Error js = Napi::Error::New(env, error.what());
  js.Set("code", Napi::String::New(env, error.code));
  if (error.number != 0) js.Set("errno", Napi::Number::New(env, -error.number));
  if (!error.syscall.empty()) js.Set("syscall", Napi::String::New(env, error.syscall));
  if (!error.path.empty()) js.Set("path", Napi::String::New(env, error.path));
  return js;
}

// Wraps an exported function, so that every C++ exception leaves as a JavaScript one.
template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return function(info);
  } catch (const Napi::Error&) {
    throw;
  } catch (const CodedError& error) {
    throw toJsError(info.Env(), error);
  } catch (const std::bad_alloc&) {
    throw toJsError(info.Env(), outOfMemory());
  } catch (const std::exception& error) {
    throw toJsError(info.Env(), CodedError("INTERNAL", error.what()));
  }
}

// Arguments. Each throws ERR_INVALID_ARG_TYPE or ERR_OUT_OF_RANGE for what binding.ts does not allow.

inline CodedError wrongArgument(size_t position, const char* expected) {
  return CodedError("ERR_INVALID_ARG_TYPE", "argument " + std::to_string(position + 1) + " must be " + expected);
}

inline Napi::Uint8Array bytesArgument(const Napi::CallbackInfo& info, size_t position) {
  Napi::Value value = info[position];
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw wrongArgument(position, "a Uint8Array");
  return value.As<Napi::Uint8Array>();
}

inline Bytes view(const Napi::Uint8Array& array) { return {array.Data(), array.ByteLength()}; }

inline int64_t integerArgument(const Napi::CallbackInfo& info, size_t position, int64_t min, int64_t max) {
  Napi::Value value = info[position];
  if (!value.IsNumber()) throw wrongArgument(position, "a number");
  double number = value.As<Napi::Number>().DoubleValue();
  // Written so that NaN fails it. The bounds are safe integers, so the comparison is exact.
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
      number != static_cast<double>(static_cast<int64_t>(number)))
    throw CodedError("ERR_OUT_OF_RANGE", "argument " + std::to_string(position + 1) + " must be a whole number from " +
                                             std::to_string(min) + " to " + std::to_string(max));
  return static_cast<int64_t>(number);
}

inline bool booleanArgument(const Napi::CallbackInfo& info, size_t position) {
  if (!info[position].IsBoolean()) throw wrongArgument(position, "a boolean");
  return info[position].As<Napi::Boolean>().Value();
}

inline constexpr int64_t safeIntegerMax = (int64_t{1} << 53) - 1;

}  // namespace skim
