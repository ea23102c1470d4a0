// The exports of unpack/: handles, arguments and results. What they do is in tree-writer.cc and staging.cc.

#include "unpack/bindings.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

#include "guard.h"
#include "handle.h"
#include "pool-call.h"
#include "posix/arguments.h"
#include "unpack/staging.h"
#include "unpack/tree-writer.h"

namespace skim {

using TreeWriterHandle = Handle<TreeWriter>;

template <>
const int64_t TreeWriterHandle::memoryBytes = 1 << 10;
template <>
const napi_type_tag TreeWriterHandle::typeTag = {0x736b696d2d747265, 0x652d777274723031};

namespace {

UniqueFd copyOfDescriptor(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (copy.get() < 0) throw systemError(errno, "fcntl");
  return copy;
}

}  // namespace

Napi::Value treeWriterOpen(const Napi::CallbackInfo& info) {
  UniqueFd root = copyOfDescriptor(static_cast<int>(integerArgument(info, 0, 0, INT32_MAX)));
  if (!info[1].IsArray()) throw wrongArgument(1, "an array of descriptors");
  const auto list = info[1].As<Napi::Array>();
  std::vector<UniqueFd> sources;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value item = list[i];
    if (!item.IsNumber()) throw wrongArgument(1, "an array of descriptors");
    sources.push_back(copyOfDescriptor(item.As<Napi::Number>().Int32Value()));
  }
  const auto staging = static_cast<int>(integerArgument(info, 2, -1, INT32_MAX));
  const bool keepOwners = booleanArgument(info, 3);
  return TreeWriterHandle::wrap(
      info.Env(), std::make_unique<TreeWriter>(std::move(root), std::move(sources),
                                               staging < 0 ? UniqueFd() : copyOfDescriptor(staging), keepOwners));
}

Napi::Value treeWriterRun(const Napi::CallbackInfo& info) {
  // Not marked busy: a writer may run several lists of instructions at once.
  TreeWriterHandle& handle = TreeWriterHandle::from(info, "a tree writer");
  if (!handle.resource) throw misuse("the tree writer is closed");
  Napi::Uint8Array instructions = bytesArgument(info, 1);
  std::vector<Napi::ObjectReference> keep;
  keep.push_back(keepAlive(info[0]));
  keep.push_back(keepAlive(instructions));
  return PoolCall<TreeWritten>::start(
      info.Env(), std::move(keep), [&writer = *handle.resource, bytes = view(instructions)] { return writer.run(bytes); },
      [](Napi::Env env, TreeWritten& written) {
        auto object = Napi::Object::New(env);
        object.Set("clonedBytes", Napi::Number::New(env, static_cast<double>(written.clonedBytes)));
        object.Set("copiedBytes", Napi::Number::New(env, static_cast<double>(written.copiedBytes)));
        object.Set("writtenBytes", Napi::Number::New(env, static_cast<double>(written.writtenBytes)));
        auto skipped = Napi::Uint8Array::New(env, written.skipped.size());
        std::copy(written.skipped.begin(), written.skipped.end(), skipped.Data());
        object.Set("skipped", skipped);
        return object;
      });
}

Napi::Value treeWriterClose(const Napi::CallbackInfo& info) {
  TreeWriterHandle::from(info, "a tree writer").resource.reset();
  return info.Env().Undefined();
}

Napi::Value stageBytes(const Napi::CallbackInfo& info) {
  const auto directory = static_cast<int>(integerArgument(info, 0, 0, INT32_MAX));
  Napi::Uint8Array bytes = bytesArgument(info, 1);
  if (!info[2].IsTypedArray() || info[2].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array)
    throw wrongArgument(2, "a Float64Array");
  const auto numbers = info[2].As<Napi::Float64Array>();
  const auto crc = static_cast<uint32_t>(integerArgument(info, 3, 0, UINT32_MAX));
  std::vector<StagedRange> ranges;
  for (size_t at = 0; at + 4 <= numbers.ElementLength(); at += 4) {
    const StagedRange range{static_cast<uint32_t>(numbers[at]), static_cast<uint64_t>(numbers[at + 1]),
                            static_cast<uint64_t>(numbers[at + 2]), static_cast<uint64_t>(numbers[at + 3])};
    if (range.bytesOffset > bytes.ByteLength() || range.length > bytes.ByteLength() - range.bytesOffset)
      throw misuse("a range outside its bytes");
    ranges.push_back(range);
  }
  std::vector<Napi::ObjectReference> keep;
  keep.push_back(keepAlive(bytes));
  return PoolCall<uint32_t>::start(
      info.Env(), std::move(keep),
      [=, piece = view(bytes), ranges = std::move(ranges)] { return stageRanges(directory, piece, ranges, crc); },
      [](Napi::Env env, uint32_t& result) { return Napi::Number::New(env, result); });
}

Napi::Value exchangeNames(const Napi::CallbackInfo& info) {
  const std::string one = bytesTextArgument(info, 0, "renameat2");
  const std::string other = bytesTextArgument(info, 1, "renameat2");
  if (syscall(SYS_renameat2, AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) != 0)
    throw systemError(errno, "renameat2", one);
  return info.Env().Undefined();
}

}  // namespace skim
