// The exports of gzip/: handles, arguments and results. What they do is in scanner.cc and decoder.cc.

#include "gzip/bindings.h"

#include "gzip/decoder.h"
#include "gzip/scanner.h"
#include "guard.h"
#include "handle.h"
#include "pool-call.h"

namespace skim {

using ScannerHandle = Handle<Scanner>;
using DecoderHandle = Handle<Decoder>;

// An inflate state, two tracers, hashes. Windows and records of a long layer come on top.
template <>
const int64_t ScannerHandle::memoryBytes = 256 << 10;
template <>
const napi_type_tag ScannerHandle::typeTag = {0x736b696d2d736361, 0x6e6e65722d303031};

// An inflate state. What else one works with, a span and the bytes for it, is let go of when its last span is done, long before the collector comes; counted here, it would make the
// collector come, a dozen times in a start.
template <>
const int64_t DecoderHandle::memoryBytes = 64 << 10;
template <>
const napi_type_tag DecoderHandle::typeTag = {0x736b696d2d646563, 0x6f6465722d303031};

namespace {

Compression compressionArgument(const Napi::CallbackInfo& info, size_t position) {
  return static_cast<Compression>(integerArgument(info, position, 0, 2));
}

Napi::Value copyBytes(Napi::Env env, Bytes bytes) {
  auto array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

Napi::Value number(Napi::Env env, uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

// Hands the bytes over to JavaScript without a copy.
Napi::Value giveBytes(Napi::Env env, SpanBytes span) {
  const std::span<uint8_t> bytes = span.bytes();
  auto memory = std::make_unique<SpareMemory>(span.release());
  auto buffer = Napi::ArrayBuffer::New(
      env, bytes.data(), bytes.size(), [](Napi::Env, void*, SpareMemory* memory) { delete memory; }, memory.get());
  memory.release();
  return Napi::Uint8Array::New(env, bytes.size(), buffer, 0);
}

// Lets the collector have the pieces that a call has used up. A scanner's goes with the answer.
void releasePieces(ScannerHandle&) {}
void releasePieces(DecoderHandle& handle) {
  for (size_t released = handle.resource->takeReleased(); released > 0; released--) handle.kept.pop_front();
}

// Runs `work` on the pool with the handle marked busy, and the handle and `further` kept alive.
template <typename Result, typename Resource>
Napi::Value runOn(const Napi::CallbackInfo& info, Handle<Resource>& handle, std::vector<Napi::ObjectReference> further,
                  typename PoolCall<Result>::Work work, typename PoolCall<Result>::Settle settle) {
  further.push_back(keepAlive(info[0]));
  handle.busy = true;
  return PoolCall<Result>::start(info.Env(), std::move(further), std::move(work), std::move(settle),
                                 [&handle] {
                                   handle.busy = false;
                                   releasePieces(handle);
                                 });
}

}  // namespace

Napi::Value scannerOpen(const Napi::CallbackInfo& info) {
  const Compression compression = compressionArgument(info, 0);
  const auto spanBytes = static_cast<uint32_t>(integerArgument(info, 1, 0, Scanner::spanBytesMax));
  if (spanBytes > 0 && spanBytes < Scanner::spanBytesMin) integerArgument(info, 1, Scanner::spanBytesMin, Scanner::spanBytesMax);
  return ScannerHandle::wrap(info.Env(), std::make_unique<Scanner>(compression, spanBytes));
}

Napi::Value scannerWrite(const Napi::CallbackInfo& info) {
  ScannerHandle& handle = ScannerHandle::from(info, "a scanner");
  Napi::Uint8Array piece = bytesArgument(info, 1);
  handle.resource->write(view(piece));
  // The one before has been used up.
  handle.kept.clear();
  handle.kept.push_back(keepAlive(piece));
  return info.Env().Undefined();
}

Napi::Value scannerRead(const Napi::CallbackInfo& info) {
  ScannerHandle& handle = ScannerHandle::from(info, "a scanner");
  Napi::Uint8Array output = bytesArgument(info, 1);
  if (output.ByteLength() == 0) throw misuse("the output has no room");
  std::vector<Napi::ObjectReference> keep;
  keep.push_back(keepAlive(output));
  return runOn<size_t>(
      info, handle, std::move(keep),
      [&scanner = *handle.resource, room = std::span<uint8_t>(output.Data(), output.ByteLength())] { return scanner.read(room); },
      [&handle](Napi::Env env, size_t& length) {
        if (length == 0) handle.kept.clear();
        return number(env, length);
      });
}

Napi::Value scannerFinish(const Napi::CallbackInfo& info) {
  ScannerHandle& handle = ScannerHandle::from(info, "a scanner");
  return runOn<ScanResult>(
      info, handle, {}, [&scanner = *handle.resource] { return scanner.finish(); },
      [](Napi::Env env, ScanResult& result) {
        auto object = Napi::Object::New(env);
        object.Set("blobSha256", copyBytes(env, result.blobSha256));
        object.Set("uncompressedSha256", copyBytes(env, result.uncompressedSha256));
        object.Set("compressedBytes", number(env, result.compressedBytes));
        object.Set("uncompressedBytes", number(env, result.uncompressedBytes));
        object.Set("trailingBytes", number(env, result.trailingBytes));
        object.Set("spanRecords", copyBytes(env, result.spanRecords));
        object.Set("windows", copyBytes(env, result.windows));
        return object;
      });
}

Napi::Value decoderOpen(const Napi::CallbackInfo& info) {
  const Compression compression = compressionArgument(info, 0);
  auto decoder = std::make_unique<Decoder>(compression, view(bytesArgument(info, 1)), view(bytesArgument(info, 2)));
  return DecoderHandle::wrap(info.Env(), std::move(decoder));
}

Napi::Value decoderWrite(const Napi::CallbackInfo& info) {
  DecoderHandle& handle = DecoderHandle::from(info, "a decoder");
  Napi::Uint8Array piece = bytesArgument(info, 1);
  handle.kept.push_back(keepAlive(piece));
  handle.resource->write(view(piece));
  releasePieces(handle);
  return info.Env().Undefined();
}

Napi::Value decoderReady(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), DecoderHandle::from(info, "a decoder").resource->isReady());
}

Napi::Value decoderNext(const Napi::CallbackInfo& info) {
  return decodeAndStore(info, [](Bytes) { return false; }, true);
}

Napi::Value decodeAndStore(const Napi::CallbackInfo& info, StoreSpan store, bool keep) {
  struct Decoded {
    std::optional<SpanBytes> span;
    bool isStored = false;
  };
  DecoderHandle& handle = DecoderHandle::from(info, "a decoder");
  return runOn<Decoded>(
      info, handle, {},
      [&decoder = *handle.resource, store = std::move(store), keep] {
        Decoded decoded{decoder.next()};
        if (!decoded.span) return decoded;
        decoded.isStored = store(decoded.span->bytes());
        // Freed here: memory that JavaScript never sees is none that its collector goes after.
        if (decoded.isStored && !keep) decoded.span = SpanBytes();
        return decoded;
      },
      [keep](Napi::Env env, Decoded& decoded) -> Napi::Value {
        if (decoded.isStored && !keep) return Napi::Boolean::New(env, true);
        return decoded.span ? giveBytes(env, std::move(*decoded.span)) : env.Null();
      });
}

}  // namespace skim
