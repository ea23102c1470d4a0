// The door of the addon: every export, one a line. What each does is documented in src/native/binding.ts, and a test holds the two
// lists against each other.

#include <napi.h>

#include "guard.h"
#include "fuse/bindings.h"
#include "gzip/bindings.h"
#include "posix/bindings.h"
#include "unpack/bindings.h"

namespace {

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void add(Napi::Object& exports, const char* name) {
  exports.Set(name, Napi::Function::New<skim::guarded<function>>(exports.Env(), name));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  add<skim::scannerOpen>(exports, "scannerOpen");
  add<skim::scannerWrite>(exports, "scannerWrite");
  add<skim::scannerRead>(exports, "scannerRead");
  add<skim::scannerFinish>(exports, "scannerFinish");
  add<skim::decoderOpen>(exports, "decoderOpen");
  add<skim::decoderWrite>(exports, "decoderWrite");
  add<skim::decoderReady>(exports, "decoderReady");
  add<skim::decoderNext>(exports, "decoderNext");
  add<skim::decoderNextStored>(exports, "decoderNextStored");
  add<skim::treeOpen>(exports, "treeOpen");
  add<skim::cacheOpen>(exports, "cacheOpen");
  add<skim::cacheVerified>(exports, "cacheVerified");
  add<skim::cacheUsed>(exports, "cacheUsed");
  add<skim::cacheVerifyAhead>(exports, "cacheVerifyAhead");
  add<skim::cacheClose>(exports, "cacheClose");
  add<skim::sessionStart>(exports, "sessionStart");
  add<skim::sessionAttach>(exports, "sessionAttach");
  add<skim::sessionLanded>(exports, "sessionLanded");
  add<skim::sessionFailed>(exports, "sessionFailed");
  add<skim::sessionResend>(exports, "sessionResend");
  add<skim::sessionRelease>(exports, "sessionRelease");
  add<skim::sessionInitResult>(exports, "sessionInitResult");
  add<skim::sessionCounters>(exports, "sessionCounters");
  add<skim::sessionDescribe>(exports, "sessionDescribe");
  add<skim::operationNameOf>(exports, "operationName");
  add<skim::printSessionsOn>(exports, "printSessionsOn");
  add<skim::treeWriterOpen>(exports, "treeWriterOpen");
  add<skim::treeWriterRun>(exports, "treeWriterRun");
  add<skim::treeWriterClose>(exports, "treeWriterClose");
  add<skim::stageBytes>(exports, "stageBytes");
  add<skim::exchangeNames>(exports, "exchangeNames");
  add<skim::mountFilesystem>(exports, "mount");
  add<skim::unmountFilesystem>(exports, "umount");
  add<skim::socketPair>(exports, "socketPair");
  add<skim::duplicateOnto>(exports, "duplicateOnto");
  add<skim::receiveDescriptor>(exports, "receiveDescriptor");
  add<skim::duplicateDescriptor>(exports, "duplicate");
  add<skim::isDisconnected>(exports, "isDisconnected");
  add<skim::socketConnect>(exports, "socketConnect");
  add<skim::socketSend>(exports, "socketSend");
  add<skim::socketWatch>(exports, "socketWatch");
  add<skim::socketClose>(exports, "socketClose");
  add<skim::tryLock>(exports, "tryLock");
  add<skim::punchHole>(exports, "punchHole");
  add<skim::makeNode>(exports, "mknod");
  add<skim::getXattr>(exports, "getXattr");
  add<skim::setXattr>(exports, "setXattr");
  add<skim::listXattr>(exports, "listXattr");
  add<skim::setTimes>(exports, "setTimes");
  return exports;
}

}  // namespace

NODE_API_MODULE(skim, init)
