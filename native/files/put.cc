#include "files/put.h"

#include <fcntl.h>
#include <unistd.h>

#include <optional>

#include "files/failure.h"
#include "files/result.h"

namespace skim::files {

namespace {

constexpr uint32_t now = UINT32_MAX;

struct Request {
  char kind;
  bool follow;
  uint32_t number;
  uint32_t mode;
  Owner owner;
  timespec times[2];
  std::string path;
  std::string target;
};

Request parse(const std::string& payload) {
  Fields fields(payload);
  Request request{};
  request.kind = static_cast<char>(fields.u8());
  request.follow = fields.u8() != 0;
  request.number = fields.u32();
  request.mode = fields.u32() & 07777;
  request.owner.uid = fields.u32();
  request.owner.gid = fields.u32();
  const auto seconds = static_cast<int64_t>(fields.u64());
  const uint32_t nanoseconds = fields.u32();
  for (timespec& time : request.times) {
    time.tv_sec = seconds;
    time.tv_nsec = nanoseconds == now ? UTIME_NOW : static_cast<long>(nanoseconds);
  }
  request.path = fields.bytes();
  request.target = fields.rest();
  return request;
}

// A name in a directory that nobody else has, until it takes another one or is removed.
class TemporaryName {
 public:
  TemporaryName(const Place& place, std::string name) : place_(place), name_(std::move(name)) {}
  TemporaryName(const TemporaryName&) = delete;
  TemporaryName& operator=(const TemporaryName&) = delete;
  ~TemporaryName() {
    if (isMade_) unlinkat(place_.parent.get(), name_.c_str(), 0);
  }

  UniqueFd makeFile() {
    UniqueFd file(openat(place_.parent.get(), name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (file.get() < 0) throw failed("making a file beside it");
    isMade_ = true;
    return file;
  }

  void makeSymlink(const Request& request) {
    if (symlinkat(request.target.c_str(), place_.parent.get(), name_.c_str()) != 0) throw failed("making the symlink");
    isMade_ = true;
    const Owner owner = request.owner;
    if (fchownat(place_.parent.get(), name_.c_str(), owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW) != 0) {
      throw failed("setting its owner");
    }
    if (utimensat(place_.parent.get(), name_.c_str(), request.times, AT_SYMLINK_NOFOLLOW) != 0) {
      throw failed("setting its time");
    }
  }

  void takePlace() {
    if (renameat(place_.parent.get(), name_.c_str(), place_.parent.get(), place_.name.c_str()) != 0) {
      throw failed("giving it its name");
    }
    isMade_ = false;
  }

 private:
  const Place& place_;
  std::string name_;
  bool isMade_ = false;
};

std::string temporaryName(const std::string& token, uint32_t number) {
  return ".skim-" + token + "-" + std::to_string(number);
}

Place placeOf(const Root& root, const Request& request) {
  Place place = root.place(request.path, request.follow, &request.owner);
  struct stat there {};
  const bool isThere = fstatat(place.parent.get(), place.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0;
  root.refuseHidden(place.parent.get(), isThere ? &there : nullptr);
  root.refuseHiddenName(place.parent.get(), place.name);
  if (!isThere || request.kind == 'd') return place;
  // rename(2) would say some of it as well, at the end, when everything has been sent.
  if (S_ISDIR(there.st_mode)) throw Failure{EISDIR, "looking at what is there"};
  if (root.isMount(place.parent.get(), place.name)) throw Failure{EBUSY, ""};
  if (!S_ISREG(there.st_mode) && !S_ISLNK(there.st_mode)) {
    throw Failure{EEXIST, "a device, a FIFO or a socket is there, which is not replaced"};
  }
  return place;
}

void putDirectory(const Root& root, const Request& request) {
  const Place place = placeOf(root, request);
  if (mkdirat(place.parent.get(), place.name.c_str(), 0700) != 0) {
    struct stat there {};
    const bool isDirectory = errno == EEXIST &&
                             fstatat(place.parent.get(), place.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
                             S_ISDIR(there.st_mode);
    if (!isDirectory) throw Failure{EEXIST, "something else than a directory is there"};
    // It stays as it is.
    return;
  }
  const UniqueFd made(openat(place.parent.get(), place.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (made.get() < 0) throw failed("opening the directory made");
  if (statOf(made.get()).st_uid != geteuid()) throw Failure{EEXIST, "somebody else has made a directory there in this moment"};
  if (fchown(made.get(), request.owner.uid, request.owner.gid) != 0) throw failed("setting its owner");
  if (fchmod(made.get(), request.mode) != 0) throw failed("setting its mode");
}

// A file on its way: the place, the temporary name there, the descriptor.
class Arrival {
 public:
  Arrival(const Root& root, const Request& request, const std::string& token)
      : request_(request), place_(placeOf(root, request)), name_(place_, temporaryName(token, request.number)), file_(name_.makeFile()) {}

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::write(file_.get(), bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) throw Stopped{};
      if (put < 0) throw failed("writing it");
      bytes.remove_prefix(static_cast<size_t>(put));
    }
  }

  void finish() {
    // In this order: chown(2) takes setuid bits away, and writing sets the time.
    if (fchown(file_.get(), request_.owner.uid, request_.owner.gid) != 0) throw failed("setting its owner");
    if (fchmod(file_.get(), request_.mode) != 0) throw failed("setting its mode");
    if (futimens(file_.get(), request_.times) != 0) throw failed("setting its time");
    name_.takePlace();
  }

 private:
  const Request& request_;
  Place place_;
  TemporaryName name_;
  UniqueFd file_;
};

// Takes the frames of a file to their end, also when it has failed: those that are on their way belong to it.
Result putFile(const Root& root, const Request& request, const std::string& token) {
  Result result;
  std::optional<Arrival> arrival;
  const auto attempt = [&](auto&& step) {
    if (!result.isFine()) return;
    try {
      step();
    } catch (const Failure& failure) {
      result = Result::of(failure);
      arrival.reset();
    }
  };
  attempt([&] { arrival.emplace(root, request, token); });
  for (;;) {
    const Frame frame = readFrame();
    if (frame.type == 'D') {
      attempt([&] { arrival->write(frame.payload); });
    } else if (frame.type == 'E') {
      attempt([&] { arrival->finish(); });
      return result;
    } else if (frame.type == 'A') {
      attempt([] { throw Failure{ECANCELED, "reading its content"}; });
      return result;
    } else {
      throw Stopped{};
    }
  }
}

Result putWhole(const Root& root, const Request& request, const std::string& token) {
  try {
    if (request.kind == 'd') {
      putDirectory(root, request);
    } else {
      const Place place = placeOf(root, request);
      TemporaryName name(place, temporaryName(token, request.number));
      name.makeSymlink(request);
      name.takePlace();
    }
    return {};
  } catch (const Failure& failure) {
    return Result::of(failure);
  }
}

}  // namespace

void tidy(const Root& root, const std::string& payload, const std::string& token) {
  Result result;
  try {
    Fields fields(payload);
    const bool follow = fields.u8() != 0;
    const std::string name = temporaryName(token, fields.u32());
    const Place place = root.place(fields.rest(), follow, nullptr);
    if (unlinkat(place.parent.get(), name.c_str(), 0) != 0) throw failed("removing an unfinished file");
  } catch (const Failure& failure) {
    result = Result::of(failure);
  }
  result.send();
}

void put(const Root& root, const std::string& payload, const std::string& token) {
  const Request request = parse(payload);
  const Result result = request.kind == 'f' ? putFile(root, request, token) : putWhole(root, request, token);
  result.send();
}

}  // namespace skim::files
