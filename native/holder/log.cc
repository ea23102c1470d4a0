#include "holder/log.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <ctime>

namespace skim::holder {

void log(Level level, std::string_view message, std::string_view details) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts;
  gmtime_r(&now.tv_sec, &parts);
  char date[32];
  strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &parts);
  char time[48];
  snprintf(time, sizeof(time), "%s.%03ldZ", date, now.tv_nsec / 1'000'000);
  std::string line = "{\"level\":" + std::to_string(static_cast<int>(level)) + ",\"time\":\"" + time +
                     "\",\"pid\":" + std::to_string(getpid()) + ",\"process\":\"holder\"";
  if (!details.empty()) line.append(",").append(details);
  line += ",\"msg\":" + quoted(message) + "}\n";
  // A full disk must not keep anything else from being done.
  (void)!write(STDERR_FILENO, line.data(), line.size());
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string errorName(int number) {
  const char* name = strerrorname_np(number);
  return name ? name : "E" + std::to_string(number);
}

}  // namespace skim::holder
