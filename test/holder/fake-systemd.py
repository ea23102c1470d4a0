"""The part of a service manager that keeps descriptors, for systemd.test.ts: systemd itself cannot be had in a test.

Usage: fake-systemd.py SOCKET COMMAND... ("@name" for an abstract socket). Runs the command as a service: NOTIFY_SOCKET, WATCHDOG_USEC, and what is stored as LISTEN_FDS. Lines on
standard input: `start`, `kill` (SIGKILL). Each datagram, and each end of the service, is a line of JSON on standard output. As sd_notify(3) has it: FDSTORE=1 stores what comes
along under FDNAME, FDSTOREREMOVE=1 removes it, descriptors that are in error are removed unless FDPOLL=0 came with them, BARRIER=1 closes what came along.
"""
import array, json, os, select, socket, subprocess, sys

address, command = sys.argv[1], sys.argv[2:]
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind("\0" + address[1:] if address.startswith("@") else address)
stored = []
service = None
poller = select.poll()
poller.register(notify, select.POLLIN)
poller.register(0, select.POLLIN)

def tell(**event):
    event["stored"] = [name for name, fd, polled in stored]
    print(json.dumps(event), flush=True)

def start():
    global service
    names = ":".join(name for name, fd, polled in stored)
    # Above those that they are to have.
    copies = [os.dup2(fd, 100 + i) for i, (name, fd, polled) in enumerate(stored)]
    environment = dict(os.environ, NOTIFY_SOCKET=address, WATCHDOG_USEC="2000000")
    def hand():
        for i, fd in enumerate(copies):
            os.dup2(fd, 3 + i, inheritable=True)
            os.close(fd)
        os.environ.clear()
    script = 'export LISTEN_PID=$$; exec "$@"'
    if stored: environment.update(LISTEN_FDS=str(len(stored)), LISTEN_FDNAMES=names)
    else: script = 'exec "$@"'
    service = subprocess.Popen(["sh", "-c", script, "sh", *command], stdin=subprocess.PIPE, stdout=open("/dev/null", "w"), env=environment, close_fds=False, preexec_fn=hand)
    for fd in copies: os.close(fd)
    tell(event="started", pid=service.pid)

def take():
    text, ancillary, flags, sender = notify.recvmsg(65536, socket.CMSG_SPACE(4 * 16))
    fds = array.array("i")
    for level, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS: fds.frombytes(data)
    lines = text.decode().split("\n")
    fields = dict(line.split("=", 1) for line in lines if line)
    for fd in fds: os.set_inheritable(fd, False)
    if fields.get("FDSTORE") == "1":
        for fd in fds: stored.append((fields["FDNAME"], fd, fields.get("FDPOLL") != "0"))
    else:
        for fd in fds: os.close(fd)
    if fields.get("FDSTOREREMOVE") == "1":
        for one in [one for one in stored if one[0] == fields["FDNAME"]]:
            stored.remove(one)
            os.close(one[1])
    for one in list(stored):
        checked = select.poll()
        checked.register(one[1], 0)
        if one[2] and checked.poll(0):
            stored.remove(one)
            os.close(one[1])
    tell(event="told", fields=fields, descriptors=len(fds))

while True:
    for fd, events in poller.poll(20):
        if fd == notify.fileno(): take()
        else:
            line = sys.stdin.readline()
            if line == "start\n": start()
            elif line == "kill\n": service.kill()
            elif line == "": sys.exit(0)
    if service and service.poll() is not None:
        tell(event="ended", code=service.returncode)
        service = None
