// `skim-holder --mounter`: makes mount(2), umount2(2) and stat(2) for a server, each in a child of its own, so that one that hangs in the kernel blocks no other.
//
// Why not the server itself: mount(2) of an overlay asks its FUSE lower for statfs. A server that is killed while one of its threads waits for that answer can
// die only when its successor has given it.
//
// A request on standard input is its length (4 bytes, little endian), then fields that each end with NUL: a number, and
//   mount SOURCE TARGET TYPE FLAGS DATA  |  umount TARGET FLAGS  |  stat PATH
// An answer on standard output is a line: the number, errno, and for stat device, inode and mode in decimal; for an error its name and its meaning. Ends when standard
// input does and all children have.

#pragma once

namespace skim::holder {

// Returns the exit code.
int runMounter();

}  // namespace skim::holder
