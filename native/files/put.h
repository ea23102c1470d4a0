// Puts one file, directory or symlink in its place.
//
// A file is written under another name in the same directory, gets owner, mode and times, and takes its place by rename(2): who reads there sees the old
// content or the new one, never a part. What is not complete goes with its TemporaryName, also when this program is ended.

#pragma once

#include <string>

#include "files/frames.h"
#include "files/root.h"

namespace skim::files {

// Obeys one 'P' request and the 'D', 'E' and 'A' frames that belong to it; answers with one 'r'. An unfinished file is named by `token` and the number in the
// request. Throws Stopped.
void put(const Root& root, const std::string& request, const std::string& token);

// Obeys one 'T' request: removes what a 'P' of the same number, path and token has left unfinished, in a program that was killed. Answers with one 'r'.
void tidy(const Root& root, const std::string& request, const std::string& token);

}  // namespace skim::files
