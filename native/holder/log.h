// Lines of JSON on standard error, of the form that src/base/logger.ts writes: a holder and its servers share a log file.

#pragma once

#include <string>
#include <string_view>

namespace skim::holder {

// The numbers are pino's.
enum class Level { info = 30, warn = 40, error = 50 };

// `details` is the inside of a JSON object, e.g. `"server":12,"file":"/a"`, made with `quoted`.
void log(Level level, std::string_view message, std::string_view details = {});

// A JSON string.
std::string quoted(std::string_view text);

// "ENOENT", as in messages of node.
std::string errorName(int number);

}  // namespace skim::holder
