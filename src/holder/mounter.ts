/**
 * A process that makes system calls on mounts for a server: mount(2), umount2(2), stat(2) (native/holder/mounter.h).
 *
 * mount(2) of an overlay asks its FUSE lower for statfs, that is, the server itself. A server that is killed while a thread of its own waits for that answer
 * cannot die before a successor has answered, so a process that serves mounts must never make such calls itself. Each call has a process of its own, so that
 * one that hangs holds up no other; it takes some 0.3 ms.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { SkimError } from "../base/errors.js";
import { findHolderProgram } from "../native/load.js";

interface Call {
  readonly syscall: string;
  readonly path: string;
  readonly resolve: (fields: readonly string[]) => void;
  readonly reject: (error: Error) => void;
}

/** A process with the calls that it has not answered. */
interface Started {
  readonly child: ChildProcess;
  readonly calls: Map<number, Call>;
}

export class Mounter {
  #started: Started | undefined;
  #count = 0;
  #isClosed = false;

  private constructor() {}

  /** Throws ENVIRONMENT where the program is not there. The process does not keep this one from ending. */
  static start(): Mounter {
    const mounter = new Mounter();
    mounter.#start();
    return mounter;
  }

  /** mount(2). Throws as NativeBinding.mount does; LOCAL_IO where the mounter dies meanwhile: then nobody knows whether it is mounted. */
  async mount(source: string, target: string, type: string, flags: number, data: string): Promise<void> {
    await this.#call("mount", target, ["mount", source, target, type, String(flags), data]);
  }

  /** umount2(2). Throws as NativeBinding.umount does, and as `mount`. */
  async umount(target: string, flags: number): Promise<void> {
    await this.#call("umount2", target, ["umount", target, String(flags)]);
  }

  /** stat(2): asks whoever serves the mount at `path`. Throws an Error with `code`, `errno`, `syscall` and `path`, and as `mount`. */
  async statRoot(path: string): Promise<{ inode: number; device: number }> {
    const [device, inode] = await this.#call("stat", path, ["stat", path]);
    return { inode: Number(inode), device: Number(device) };
  }

  /** No more calls; resolves when those under way are answered and the process is gone. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (!this.#started) return;
    const { child } = this.#started;
    child.ref();
    (child.stdout as Socket).ref();
    const gone = once(child, "close");
    child.stdin!.end();
    await gone;
  }

  async #call(syscall: string, path: string, fields: readonly string[]): Promise<readonly string[]> {
    if (fields.some((field) => field.includes("\0")))
      throw systemError("EINVAL", 22, "invalid argument", syscall, path);
    if (this.#isClosed) throw new SkimError("LOCAL_IO", `${syscall} of ${path}: the mounter has been closed`);
    const { child, calls } = this.#started ?? this.#start();
    const number = ++this.#count;
    const request = Buffer.from([String(number), ...fields].map((field) => `${field}\0`).join(""));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(request.length);
    return await new Promise((resolve, reject) => {
      calls.set(number, { syscall, path, resolve, reject });
      (child.stdout as Socket).ref();
      child.stdin!.write(Buffer.concat([length, request]));
    });
  }

  #start(): Started {
    // A session of its own: a terminal's Ctrl-C must not reach it.
    const child = spawn(findHolderProgram(), ["--mounter"], {
      cwd: "/",
      env: {},
      detached: true,
      stdio: ["pipe", "pipe", "inherit"],
    });
    const started = { child, calls: new Map<number, Call>() };
    this.#started = started;
    child.unref();
    const [input, output] = [child.stdin as Socket, child.stdout as Socket];
    input.unref();
    output.unref();
    // Of a mounter that has died; its end says the same.
    input.on("error", () => {});
    let pending = "";
    output.setEncoding("utf8").on("data", (text: string) => {
      const lines = (pending + text).split("\n");
      pending = lines.pop()!;
      for (const line of lines) answer(started, line);
      if (started.calls.size === 0) output.unref();
    });
    child.once("error", (cause) => this.#lose(started, cause));
    // Its output may stay open much longer: children of it that hang have it too.
    child.once("exit", () => {
      // Planned: the last answers may still be in the pipe.
      if (!this.#isClosed) this.#lose(started);
    });
    child.once("close", () => this.#lose(started));
    return started;
  }

  /** The next call starts another one. */
  #lose(started: Started, cause?: Error): void {
    if (this.#started === started) this.#started = undefined;
    const { child, calls } = started;
    child.stdout!.destroy();
    for (const { syscall, path, reject } of calls.values())
      reject(new SkimError("LOCAL_IO", `${syscall} of ${path}: the mounter has died meanwhile`, { cause }));
    calls.clear();
  }
}

function answer({ calls }: Started, line: string): void {
  const [number, errno, ...rest] = line.split(" ");
  const call = calls.get(Number(number));
  if (!call) return;
  calls.delete(Number(number));
  if (errno === "0") call.resolve(rest);
  else {
    const [code = "EIO", ...meaning] = rest;
    call.reject(systemError(code, Number(errno), meaning.join(" "), call.syscall, call.path));
  }
}

/** As the addon and node make them. */
function systemError(code: string, errno: number, meaning: string, syscall: string, path: string): Error {
  const error = new Error(`${code}: ${meaning}, ${syscall} '${path}'`);
  return Object.assign(error, { code, errno: -errno, syscall, path });
}
