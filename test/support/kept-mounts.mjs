// The part of fuse-server.mjs that has its connections kept: takes over what is held, mounts what is not, beats, and lets go when another server comes.
//
// `keeper` of its options: {runDir, logFile, mounts: {id: mountpoint}, restarts (false: nobody starts it again), watchdogMs, abortAfterRestarts, dieFile, all}. While
// the file `dieFile` has a number above 0, a server counts it down and kills itself when it has taken what is held, before it serves.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

const server = path.resolve(import.meta.dirname, "fuse-server.mjs");

export class KeptMounts {
  #keeper;
  #serve;
  #logger;
  #options;
  #sessions = new Map();
  #taken = [];
  #hasLetGo = false;
  #releases = [];

  static async open(options, load, logger, serve) {
    const { openDescriptorKeeper } = await load("holder/open-keeper");
    const kept = new KeptMounts();
    const {
      runDir,
      logFile,
      mounts = {},
      restarts = true,
      watchdogMs,
      abortAfterRestarts,
      dieFile,
    } = options.keeper;
    kept.#serve = serve;
    kept.#logger = logger;
    kept.#options = options;
    const keeper = await openDescriptorKeeper({
      runDir,
      logFile,
      logger,
      environment: process.env,
      restart: restarts ? { file: process.execPath, args: [server, JSON.stringify(options)] } : undefined,
      ...(watchdogMs === undefined ? {} : { watchdogMs }),
      ...(abortAfterRestarts === undefined ? {} : { abortAfterRestarts }),
    });
    kept.#keeper = keeper;
    setInterval(() => keeper.beat(), 20).unref();
    keeper.takenOver.then(() => kept.#giveWay());
    const held = await keeper.takeHeld();
    if (dieFile && existsSync(dieFile)) {
      const left = Number(readFileSync(dieFile, "utf8"));
      writeFileSync(dieFile, String(left - 1));
      if (left > 0) process.kill(process.pid, "SIGKILL");
    }
    for (const connection of held) {
      kept.#taken.push(connection.id);
      await kept.#take(connection);
    }
    for (const [id, mountpoint] of Object.entries(mounts))
      if (!kept.#sessions.has(id)) await kept.mount(id, mountpoint);
    keeper.ready(`serves ${kept.#sessions.size} mounts`);
    return kept;
  }

  facts() {
    return { keeper: this.#keeper.name, restarts: this.#keeper.restarts, taken: this.#taken };
  }

  async mount(id, mountpoint) {
    const { fsName = "kept image" } = this.#options;
    const note = JSON.stringify({ about: id });
    await this.#take(await this.#keeper.mount({ id, mountpoint, fsName, allowOther: true, note }));
  }

  /** As when another server comes, but stays. */
  async letGo(limitMs) {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    this.#hasLetGo = true;
    await Promise.all(sessions.map((session) => session.letGo(limitMs)));
  }

  /** All mounts have ended. Never, for a server that has let go of them. */
  async leave() {
    if (this.#hasLetGo) await new Promise(() => {});
    await Promise.all(this.#releases);
    await this.#keeper.leave({ all: this.#options.keeper.all ?? true });
  }

  async #take(connection) {
    const { id, note } = connection;
    if (JSON.parse(note).about !== id) throw new Error(`the note of ${id} is ${note}`);
    const session = await this.#serve(connection);
    this.#sessions.set(id, session);
    await this.#keeper.keepInitResult(id, session.initResult());
    session.ended.then(() => {
      if (this.#sessions.delete(id)) this.#releases.push(this.#keeper.release(id));
    });
  }

  async #giveWay() {
    await this.letGo();
    await this.#keeper.leave({ all: false });
    this.#logger.info({}, "gave way");
    process.exit(0);
  }
}
