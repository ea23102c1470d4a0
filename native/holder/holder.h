// The holder: keeps /dev/fuse of every mount open over the death of the process that serves them, and starts that process again.
//
// One thread, one loop around poll(2), which sleeps until somebody says something, or something is due. A *peer* is a process that is connected. One of them is the
// *server*: it has said HELLO, and may mount, have things kept, and take what is kept. A peer that says HELLO while there is a server is the *next* one: the server is asked
// to let go (LETGO), and when it has left, or been killed for not leaving, the next one is welcomed.
//
// A server that goes without having said LEAVE is started again, with the command that the last HELLO told. That it is gone shows in one of three ways: its connection is
// closed, its pidfd says so, or it has not been heard of for its watchdog's time. The last is not only for one that hangs: a process that has been
// killed can hang in the kernel, waiting for an answer of FUSE, that is, for its successor; its descriptors stay open so long. So nothing here ever waits for a process to end.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "holder/connection.h"
#include "holder/packet.h"
#include "holder/process.h"

namespace skim::holder {

// CLOCK_MONOTONIC: a machine that has slept is no server that has hung.
uint64_t monotonicMs();

class Holder {
 public:
  Holder(UniqueFd listener, UniqueFd signals, Inherited inherited);

  // Returns when nobody needs this process any more.
  void run();

 private:
  struct Peer {
    UniqueFd socket;
    Process process;
    // Its connection is over; removed at the end of the turn.
    bool isGone = false;
    // What its HELLO said.
    std::string helloNumber;
    uint64_t watchdogMs = 0;
    bool isReady = false;
    uint64_t heardMs = 0;
    uint64_t served = 0;
  };
  // A mount(2) that a child makes: looking its path up may have to ask a filesystem that does not answer.
  struct Mounting {
    pid_t child;
    Peer* peer;
    std::string number;
    Held held;
  };

  void turn();
  std::optional<uint64_t> nextDueMs() const;
  void doWhatIsDue();
  void accept();
  void admit(UniqueFd socket);
  void turnAway();
  void takeSignals();
  void reapChildren();

  void hear(Peer& peer);
  void handle(Peer& peer, Packet& packet);
  void hello(Peer& peer, const Packet& packet);
  void welcome(Peer& peer);
  void take(Peer& peer, const Packet& packet);
  void mount(Peer& peer, const Packet& packet);
  void finishMount(Mounting& mounting, int error);
  void hold(Peer& peer, Packet& packet);
  void keep(Peer& peer, const Packet& packet);
  void release(Peer& peer, const Packet& packet);
  void answer(Peer& peer, const std::vector<std::string_view>& fields, int descriptor = -1);
  void refuse(Peer& peer, std::string_view number, int error, std::string_view syscall = {});

  void lose(Peer& peer);
  void forgetServer(bool hasMoved);
  void startLater(bool wasReady);
  void startServer();
  void startFailed(const char* how);
  void judgeConnections(bool hasMoved);
  void dropDisconnected(size_t position);
  Held* find(std::string_view id);
  bool isOver() const;

  UniqueFd listener_;
  UniqueFd signals_;
  // Given up for a moment where no descriptor is left, to turn somebody away.
  UniqueFd reserve_;
  const Inherited inherited_;

  std::vector<std::unique_ptr<Peer>> peers_;
  Peer* server_ = nullptr;
  Peer* next_ = nullptr;
  uint64_t letGoUntilMs_ = 0;
  std::vector<Held> held_;
  std::vector<Mounting> mounting_;

  // As the last HELLO said it.
  std::optional<Command> command_;
  uint64_t abortAfterRestarts_ = 0;

  // A server that has been started and has not said HELLO yet.
  Process starting_;
  uint64_t startingUntilMs_ = 0;
  std::optional<uint64_t> startAtMs_;
  unsigned failures_ = 0;
  uint64_t restarts_ = 0;

  // Nobody has come yet, and how long that is waited for.
  std::optional<uint64_t> firstUntilMs_;
  bool endsWhenEmpty_ = false;
  bool isTerminated_ = false;
};

}  // namespace skim::holder
