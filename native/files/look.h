// What is below the root: one entry, a directory's, a whole tree with the content of its files; and removing it.

#pragma once

#include <string>

#include "files/root.h"

namespace skim::files {

// 'G': sends a tree as entries ('e'), each file's followed by its content ('d', ended by 'z' with errno); of what cannot be looked at or read, errno, path and
// why ('w'). 'L': entries of a directory. 'S': one entry.
// Each ends in one 'r'. Symlinks in a tree are sent, and not followed; of devices, FIFOs and sockets only that they are there. Throws Stopped.
void sendTree(const Root& root, const std::string& request);
void sendList(const Root& root, const std::string& request);
void sendStat(const Root& root, const std::string& request);

// 'R': removes what is at a path, a symlink itself; with all below it if it is to, and then a sign of life ('p') now and then. Stops at other mounts. Answers
// with one 'r'.
void removeTree(const Root& root, const std::string& request);

}  // namespace skim::files
