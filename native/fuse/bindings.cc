// The exports of fuse/: handles, arguments and results. What they do is in session.cc.

#include "fuse/bindings.h"

#include <algorithm>
#include <chrono>

#include "fuse/cached-layer.h"
#include "fuse/session.h"
#include "fuse/state-signal.h"
#include "gzip/bindings.h"
#include "guard.h"
#include "handle.h"
#include "pool-call.h"

namespace skim {
namespace {

struct Tree {
  std::shared_ptr<const fuse::ImageTree> tree;
};

struct Cache {
  std::shared_ptr<CachedLayer> layer;
};

// A session with what JavaScript must keep for it. It holds itself until the session has ended: a handle that is collected ends nothing, and a
// process that ends with sessions leaves them to the kernel.
struct SessionObject {
  std::unique_ptr<fuse::Session> session;
  Napi::ObjectReference tree;
  Napi::ThreadSafeFunction onEvents;
  std::shared_ptr<SessionObject> self;
};

struct SessionShare {
  std::shared_ptr<SessionObject> object;
};

}  // namespace

using TreeHandle = Handle<Tree>;
using CacheHandle = Handle<Cache>;
using SessionHandle = Handle<SessionShare>;

// The sections are JavaScript's own memory.
template <>
const int64_t TreeHandle::memoryBytes = 256;
template <>
const napi_type_tag TreeHandle::typeTag = {0x736b696d2d747265, 0x652d2d2d2d303031};

// A digest and a length for each span.
template <>
const int64_t CacheHandle::memoryBytes = 16 << 10;
template <>
const napi_type_tag CacheHandle::typeTag = {0x736b696d2d636163, 0x68652d2d2d303031};

template <>
const int64_t SessionHandle::memoryBytes = 1 << 20;
template <>
const napi_type_tag SessionHandle::typeTag = {0x736b696d2d736573, 0x73696f6e2d303031};

namespace {

SessionObject& sessionOf(const Napi::CallbackInfo& info) { return *SessionHandle::from(info, "a session").resource->object; }

std::shared_ptr<CachedLayer> openCache(const Napi::CallbackInfo& info, size_t position) {
  auto layer = CacheHandle::from(info, "a cache", position).resource->layer;
  if (!layer) throw misuse("the cache has been closed");
  return layer;
}

// The bytes themselves, not a copy; they outlive the handle as long as JavaScript looks at them.
Napi::Value shared(Napi::Env env, std::shared_ptr<std::atomic<uint8_t>[]> bytes, size_t count) {
  auto* owner = new std::shared_ptr<std::atomic<uint8_t>[]>(std::move(bytes));
  auto buffer = Napi::ArrayBuffer::New(
      env, owner->get(), count, [](Napi::Env, void*, std::shared_ptr<std::atomic<uint8_t>[]>* hint) { delete hint; }, owner);
  return Napi::Uint8Array::New(env, count, buffer, 0);
}

// Calls JavaScript with what has happened. Runs on its thread; after "ended" never again.
void deliver(SessionObject* object, Napi::Env env, Napi::Function callback) {
  const std::vector<uint32_t> events = object->session->events().takeAll();
  bool ends = false;
  for (size_t i = 0; i < events.size(); i += 2) ends |= events[i] == static_cast<uint32_t>(fuse::EventKind::ended);
  if (ends) {
    object->session->join();
    fuse::removeSession(object->session.get());
  }
  auto array = Napi::Uint32Array::New(env, events.size());
  std::copy(events.begin(), events.end(), array.Data());
  callback.Call({array});
  if (!ends) return;
  object->tree.Reset();
  object->onEvents.Release();
  object->self.reset();
}

Napi::Value toUint8Array(Napi::Env env, const void* bytes, size_t length) {
  auto array = Napi::Uint8Array::New(env, length);
  if (length > 0) std::memcpy(array.Data(), bytes, length);
  return array;
}

std::optional<fuse::InitResult> initResultArgument(const Napi::CallbackInfo& info, size_t position) {
  const Bytes bytes = view(bytesArgument(info, position));
  if (bytes.empty()) return std::nullopt;
  fuse::InitResult result;
  if (bytes.size() != sizeof(result)) throw wrongArgument(position, "an init result of this version");
  std::memcpy(&result, bytes.data(), sizeof(result));
  if (std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; })) return fuse::InitResult::unknown();
  if (result.version != 1) throw wrongArgument(position, "an init result of this version");
  return result;
}

}  // namespace

Napi::Value treeOpen(const Napi::CallbackInfo& info) {
  constexpr size_t sectionCount = 8;
  auto kept = Napi::Array::New(info.Env(), sectionCount);
  Bytes sections[sectionCount];
  for (size_t i = 0; i < sectionCount; i++) {
    const Napi::Uint8Array section = bytesArgument(info, i);
    sections[i] = view(section);
    kept.Set(static_cast<uint32_t>(i), section);
  }
  const auto fileBytes = static_cast<uint64_t>(integerArgument(info, sectionCount, 0, safeIntegerMax));
  auto tree = std::make_unique<Tree>();
  tree->tree = std::make_shared<fuse::ImageTree>(
      fuse::ImageTree::Sections{sections[0], sections[1], sections[2], sections[3], sections[4], sections[5], sections[6], sections[7]},
      fileBytes);
  Napi::Value wrapped = TreeHandle::wrap(info.Env(), std::move(tree));
  wrapped.As<Napi::External<TreeHandle>>().Data()->kept.push_back(keepAlive(kept));
  return wrapped;
}

Napi::Value cacheOpen(const Napi::CallbackInfo& info) {
  const auto dataFd = static_cast<int>(integerArgument(info, 0, 0, INT32_MAX));
  const auto mapFd = static_cast<int>(integerArgument(info, 1, 0, INT32_MAX));
  auto cache = std::make_unique<Cache>();
  cache->layer = std::make_shared<CachedLayer>(dataFd, mapFd, view(bytesArgument(info, 2)));
  return CacheHandle::wrap(info.Env(), std::move(cache));
}

Napi::Value cacheVerified(const Napi::CallbackInfo& info) {
  const auto layer = openCache(info, 0);
  return shared(info.Env(), layer->verifiedBytes(), layer->spanCount());
}

Napi::Value cacheUsed(const Napi::CallbackInfo& info) {
  const auto layer = openCache(info, 0);
  return shared(info.Env(), layer->usedBytes(), layer->spanCount());
}

Napi::Value cacheVerifyAhead(const Napi::CallbackInfo& info) {
  const auto layer = openCache(info, 0);
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array)
    throw wrongArgument(1, "a Uint32Array");
  const auto array = info[1].As<Napi::Uint32Array>();
  std::vector<uint32_t> spans(array.Data(), array.Data() + array.ElementLength());
  if (std::any_of(spans.begin(), spans.end(), [&layer](uint32_t span) { return span >= layer->spanCount(); }))
    throw wrongArgument(1, "spans of the layer");
  struct Done {};
  return PoolCall<Done>::start(
      info.Env(), {},
      [layer, spans = std::move(spans)] {
        std::vector<uint8_t> bytes;
        for (const uint32_t span : spans) layer->verifyAhead(span, bytes);
        return Done{};
      },
      [](Napi::Env env, Done&) { return env.Undefined(); });
}

Napi::Value cacheClose(const Napi::CallbackInfo& info) {
  CacheHandle::from(info, "a cache").resource->layer.reset();
  return info.Env().Undefined();
}

Napi::Value decoderNextStored(const Napi::CallbackInfo& info) {
  const auto layer = openCache(info, 1);
  const auto span = static_cast<uint32_t>(integerArgument(info, 2, 0, layer->spanCount() - 1));
  return decodeAndStore(info, [layer, span](Bytes bytes) { return layer->store(span, bytes); }, booleanArgument(info, 3));
}

Napi::Value sessionStart(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  // Ours from here on, also where this throws.
  UniqueFd fd(static_cast<int>(integerArgument(info, 0, 0, INT32_MAX)));
  const auto tree = TreeHandle::from(info, "a tree", 1).resource->tree;
  const auto threads = static_cast<unsigned>(integerArgument(info, 2, 1, 64));
  const bool trace = booleanArgument(info, 3);
  const auto predecessor = initResultArgument(info, 4);
  if (!info[5].IsString()) throw wrongArgument(5, "a string");
  const std::string label = info[5].As<Napi::String>().Utf8Value();
  if (!info[6].IsFunction()) throw wrongArgument(6, "a function");

  auto object = std::make_shared<SessionObject>();
  object->tree = keepAlive(info[1]);
  object->onEvents = Napi::ThreadSafeFunction::New(env, info[6].As<Napi::Function>(), "skim FUSE session", 0, 1);
  object->self = object;
  const auto notify = [object = object.get()] {
    object->onEvents.NonBlockingCall([object](Napi::Env env, Napi::Function callback) { deliver(object, env, callback); });
  };
  try {
    object->session = std::make_unique<fuse::Session>(std::move(fd), tree, fuse::SessionOptions{threads, trace, label}, predecessor, notify);
  } catch (...) {
    object->onEvents.Release();
    object->self.reset();
    throw;
  }
  fuse::addSession(object->session.get(), label);
  return SessionHandle::wrap(env, std::make_unique<SessionShare>(SessionShare{object}));
}

Napi::Value sessionAttach(const Napi::CallbackInfo& info) {
  SessionObject& object = sessionOf(info);
  const auto layer = static_cast<uint32_t>(integerArgument(info, 1, 0, UINT32_MAX));
  object.session->attach(layer, info[2].IsNull() ? nullptr : openCache(info, 2));
  return info.Env().Undefined();
}

Napi::Value sessionLanded(const Napi::CallbackInfo& info) {
  SessionObject& object = sessionOf(info);
  const auto span = static_cast<uint32_t>(integerArgument(info, 1, 0, UINT32_MAX));
  const Bytes bytes = view(bytesArgument(info, 2));
  object.session->landed(span, bytes.data(), bytes.size());
  return info.Env().Undefined();
}

Napi::Value sessionFailed(const Napi::CallbackInfo& info) {
  SessionObject& object = sessionOf(info);
  const auto span = static_cast<uint32_t>(integerArgument(info, 1, 0, UINT32_MAX));
  const auto error = static_cast<int>(integerArgument(info, 2, 1, 4095));
  object.session->failed(span, error);
  return info.Env().Undefined();
}

Napi::Value sessionResend(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), sessionOf(info).session->resend());
}

Napi::Value sessionRelease(const Napi::CallbackInfo& info) {
  SessionObject& object = sessionOf(info);
  const auto limitMs = integerArgument(info, 1, 0, INT32_MAX);
  // After its end there is nothing to let go of.
  if (object.self) object.session->release(std::chrono::milliseconds(limitMs));
  return info.Env().Undefined();
}

Napi::Value sessionInitResult(const Napi::CallbackInfo& info) {
  const auto result = sessionOf(info).session->initResult();
  return result ? toUint8Array(info.Env(), &*result, sizeof(*result)) : toUint8Array(info.Env(), nullptr, 0);
}

Napi::Value sessionCounters(const Napi::CallbackInfo& info) {
  const fuse::SessionCounters& counters = sessionOf(info).session->counters();
  std::vector<double> values;
  for (const auto& count : counters.operations) values.push_back(static_cast<double>(count.load(std::memory_order_relaxed)));
  for (const auto* count : {&counters.reads, &counters.readBytes, &counters.waitedReads, &counters.cachedSpans,
                            &counters.verifiedSpans, &counters.failedReads, &counters.interruptedReads})
    values.push_back(static_cast<double>(count->load(std::memory_order_relaxed)));
  auto array = Napi::Float64Array::New(info.Env(), values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

Napi::Value sessionDescribe(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), sessionOf(info).session->describe());
}

Napi::Value operationNameOf(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), fuse::operationName(static_cast<uint32_t>(integerArgument(info, 0, 0, UINT32_MAX))));
}

Napi::Value printSessionsOn(const Napi::CallbackInfo& info) {
  fuse::printStateOn(static_cast<int>(integerArgument(info, 0, 1, 64)));
  return info.Env().Undefined();
}

}  // namespace skim
