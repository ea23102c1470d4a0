// On a signal, every session of the process writes its state to standard error: threads, waiting requests, spans in flight.
//
// A thread of its own does it, so that it works when JavaScript stands still, which is when somebody asks.

#pragma once

#include <string>

namespace skim::fuse {

class Session;

// Sessions are listed from `addSession` until `removeSession`; the label names one in the text.
void addSession(Session* session, const std::string& label);
void removeSession(Session* session);

// Takes the signal over for good. Throws systemError.
void printStateOn(int signal);

}  // namespace skim::fuse
