/**
 * A host's daemon, as a caller in TypeScript sees it: the routes of api.ts as functions. What fails throws the SkimError that the daemon answered with. What can be asked
 * twice is asked again where the daemon dies meanwhile; nothing else is.
 *
 *     const daemon = await DaemonClient.find("/run/skim");
 *     const rootfs = await daemon?.client.createRootfs({ id: "job-1", image: "docker.io/library/debian:12" });
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { text } from "node:stream/consumers";
import { type ErrorCode, errorTable, isSkimError, SkimError, systemErrorCode } from "../base/errors.js";
import type { Presence } from "../content/background-fill.js";
import { holderLives } from "../holder/open-keeper.js";
import type { ServerStart } from "../mount/mount-observation.js";
import type { MountStats } from "../mount/serve-image.js";
import type { ImageProfiles } from "../profile/start-profile.js";
import type {
  HealthAnswer,
  LeftoversAnswer,
  ListedAnswer,
  MountAnswer,
  MountRequestBody,
  RemovalAnswer,
  RootfsAnswer,
  RootfsRequestBody,
} from "./api-schemas.js";

/** A daemon that is just being started again answers within this; longer, and there is none. */
const backWithinMs = 10_000;
/** It is answered from memory. */
const healthTimeoutMs = 10_000;
/** How often it is looked for meanwhile. */
const lookAgainMs = 50;

/** A request that so many servers have died under is not sent to another one: it may be the reason. */
const deathsMax = 20;

type Method = "GET" | "POST" | "DELETE";
type Query = Readonly<Record<string, string | boolean | number | undefined>>;

export class DaemonClient {
  readonly #socket: string;

  private constructor(socket: string) {
    this.#socket = socket;
  }

  /** Of the daemon that listens, or is to listen, at `<runDir>/daemon.sock`. */
  static at(runDir: string): DaemonClient {
    return new DaemonClient(`${runDir}/daemon.sock`);
  }

  /** Undefined where no daemon answers. One that has died and whose mounts are kept for the next is waited for a while. */
  static async find(runDir: string): Promise<{ client: DaemonClient; health: HealthAnswer } | undefined> {
    // The first request takes node 5 ms, and most hosts that have no daemon never had one.
    if (!existsSync(`${runDir}/daemon.sock`) && !existsSync(`${runDir}/holder.sock`)) return undefined;
    const client = DaemonClient.at(runDir);
    const endsAt = performance.now() + backWithinMs;
    for (;;) {
      try {
        return { client, health: await client.health() };
      } catch (error) {
        if (!isGone(error)) throw error;
      }
      if (!existsSync(`${runDir}/holder.sock`) || performance.now() > endsAt || !holderLives(runDir))
        return undefined;
      await lookAgain();
    }
  }

  async health(): Promise<HealthAnswer> {
    const answer = await this.#send("GET", "/v1/health", {}, undefined, healthTimeoutMs);
    return JSON.parse(await text(await accepted(answer, [200]))) as HealthAnswer;
  }

  async ready(): Promise<{ ready: boolean; why?: string }> {
    return await this.#call("GET", "/v1/ready", {}, undefined, [200, 503]);
  }

  async list(kind?: "image" | "mount" | "rootfs"): Promise<ListedAnswer[]> {
    return await this.#retried(() => this.#call("GET", "/v1/mounts", { kind }));
  }

  /** Where the daemon dies meanwhile, the next one is asked again. */
  async createRootfs(body: RootfsRequestBody): Promise<RootfsAnswer> {
    const request = withToken(body);
    return await this.#retried(() => this.#call("POST", "/v1/rootfs", {}, request));
  }

  /** As createRootfs. */
  async createMount(body: MountRequestBody): Promise<MountAnswer> {
    const request = withToken(body);
    return await this.#retried(() => this.#call("POST", "/v1/mounts", {}, request));
  }

  /** Where the daemon dies meanwhile, the next one is asked again; it then is no failure that there is nothing left. */
  async remove(id: string, options: { force?: boolean; keepUpper?: boolean } = {}): Promise<RemovalAnswer> {
    let isAgain = false;
    return await this.#retried(async () => {
      try {
        return await this.#call("DELETE", `/v1/mounts/${id}`, options);
      } catch (error) {
        if (isAgain && isSkimError(error, "NOT_FOUND")) return { id };
        throw error;
      } finally {
        isAgain = true;
      }
    });
  }

  async stats(id: string): Promise<MountStats> {
    return await this.#retried(() => this.#call("GET", `/v1/mounts/${id}/stats`));
  }

  /** Marks and waits of the last start on the image of a mount. */
  async start(id: string): Promise<ServerStart> {
    return await this.#call("GET", `/v1/mounts/${id}/start`);
  }

  /** Lines of JSON, each with its newline. */
  async logs(id: string, lines?: number): Promise<string> {
    return await this.#retried(async () => {
      const answer = await this.#send("GET", `/v1/mounts/${id}/logs`, { lines });
      return await text(await accepted(answer, [200]));
    });
  }

  /** Fetches all of an image. `onProgress`: compressed bytes that have come of a layer. */
  async warm(
    body: { image: string; source?: string },
    onProgress: (layer: string, bytes: number) => void = () => {},
  ): Promise<Presence> {
    const answer = await accepted(await this.#send("POST", "/v1/warm", {}, body), [200]);
    let rest = "";
    for await (const piece of answer.setEncoding("utf8")) {
      const lines = (rest + piece).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const step = JSON.parse(line) as Record<string, unknown>;
        if (step.code !== undefined) throw errorOf(step);
        if (step.done) return step as unknown as Presence;
        onProgress(String(step.layer), Number(step.bytes));
      }
    }
    throw new SkimError("LOCAL_IO", "the daemon ended before the image was warm; ask again");
  }

  async profiles(id: string): Promise<ImageProfiles> {
    return await this.#retried(() => this.#call("GET", `/v1/profiles/${id}`));
  }

  /** What killed processes have left; `remove` and `all` as `skim gc` has them. */
  async leftovers(options: { remove?: boolean; all?: boolean } = {}): Promise<LeftoversAnswer> {
    return await this.#retried(() => this.#call("POST", "/v1/gc", options));
  }

  async drain(): Promise<HealthAnswer> {
    return await this.#call("POST", "/v1/drain");
  }

  async shutdown(options: { force?: boolean } = {}): Promise<HealthAnswer> {
    return await this.#call("POST", "/v1/shutdown", {}, options);
  }

  /** Text of the Prometheus exposition format. */
  async metrics(): Promise<string> {
    return await text(await accepted(await this.#send("GET", "/metrics"), [200]));
  }

  /** The OpenAPI document of the daemon. */
  async openApi(): Promise<Record<string, unknown>> {
    return await this.#call("GET", "/v1/openapi.json");
  }

  async #call<T>(
    method: Method,
    path: string,
    query: Query = {},
    body?: object,
    statuses: readonly number[] = [200],
  ): Promise<T> {
    const answer = await accepted(await this.#send(method, path, query, body), statuses);
    return JSON.parse(await text(answer)) as T;
  }

  async #send(
    method: Method,
    path: string,
    query: Query = {},
    body?: object,
    timeoutMs?: number,
  ): Promise<IncomingMessage> {
    const given = new URLSearchParams();
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) given.set(name, String(value));
    const search = given.size > 0 ? `?${given}` : "";
    const json = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const sent = request({
      socketPath: this.#socket,
      method,
      path: `${path}${search}`,
      // One that is kept would be closed by a daemon that is killed, under the next request.
      agent: false,
      ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
      headers: json ? { "content-type": "application/json", "content-length": json.length } : {},
    });
    sent.once("timeout", () =>
      sent.destroy(
        new SkimError(
          "LOCAL_IO",
          `the daemon at ${this.#socket} does not answer; see its log, or end it: whoever keeps its mounts starts it again`,
        ),
      ),
    );
    sent.end(json);
    const [answer] = (await once(sent, "response")) as [IncomingMessage];
    return answer;
  }

  async #retried<T>(work: () => Promise<T>): Promise<T> {
    let endsAt = performance.now() + backWithinMs;
    for (let deaths = 0; ; ) {
      try {
        return await work();
      } catch (error) {
        if (!isGone(error)) throw error;
        // There was one that took the request, so another will come.
        if (isDeath(error) && ++deaths < deathsMax) endsAt = performance.now() + backWithinMs;
        if (performance.now() > endsAt)
          throw new SkimError("LOCAL_IO", `the daemon at ${this.#socket} does not answer any more`, {
            cause: error,
          });
        await lookAgain();
      }
    }
  }
}

function lookAgain(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, lookAgainMs));
}

/** The same for every attempt: a request whose answer was lost replaces what it made. */
function withToken<Body extends { token?: string | undefined }>(body: Body): Body {
  return { ...body, token: body.token ?? randomBytes(12).toString("hex") };
}

/** Throws what the daemon refused with. */
async function accepted(answer: IncomingMessage, statuses: readonly number[]): Promise<IncomingMessage> {
  if (statuses.includes(answer.statusCode ?? 0)) return answer;
  throw errorOf(JSON.parse(await text(answer)) as Record<string, unknown>);
}

function errorOf({ code, message }: Record<string, unknown>): SkimError {
  const known = typeof code === "string" && code in errorTable ? (code as ErrorCode) : "INTERNAL";
  return new SkimError(known, typeof message === "string" ? message : "the daemon's answer makes no sense");
}

/** Nobody listens, or whoever listened has died. */
function isGone(error: unknown): boolean {
  return ["ENOENT", "ECONNREFUSED"].includes(systemErrorCode(error) ?? "") || isDeath(error);
}

/** Whoever listened has died. */
function isDeath(error: unknown): boolean {
  return ["ECONNRESET", "EPIPE"].includes(systemErrorCode(error) ?? "");
}
