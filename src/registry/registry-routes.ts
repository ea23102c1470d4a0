import type { ByteRange } from "../base/byte-range.js";
import { describeError, isSkimError, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { redact } from "../base/redact.js";
import type { CallScope } from "./call-scope.js";
import type { MirrorState } from "./image-source.js";
import { MirrorPatience } from "./mirror-patience.js";
import { defaultRestPolicy, Rest, type RestPolicy } from "./mirror-rest.js";
import type { RegistryClient } from "./registry-client.js";
import { TransientFailure } from "./retry.js";

/**
 * Who is asked for something of a repository: its mirrors in their order, and the registry itself last.
 *
 * ```
 * mirror A ─fails─▶ mirror B ─fails─▶ origin ─fails─▶ retry (retry.ts), which begins at the front again
 *    └ rests, longer each time; when it has rested, one attempt tries it out while the others pass it by
 * ```
 * A mirror that is away, in trouble or talks nonsense rests for everything; one that has not got a blob, or sent wrong bytes of it, rests for
 * that blob. Where two mirrors were wrong about a blob, only the origin is believed about it for a while. The failure of a
 * mirror costs no attempt and is never the caller's error: what counts is what the origin says.
 */

/** The part of a message about a mirror that an error repeats, in characters. */
const reasonCharactersMax = 200;

/** Reads of one blob that are remembered: those under way side by side, and those that were asked for again. */
const sentMax = 64;

export interface MirrorRoute {
  /** As the user named it, for messages. */
  readonly name: string;
  readonly client: RegistryClient;
}

export interface RegistryRoutesOptions {
  readonly origin: RegistryClient;
  /** The one to be asked first comes first. */
  readonly mirrors: readonly MirrorRoute[];
  /** Time for an answer, and for each further 64 KiB of it. */
  readonly mirrorTimeoutMs: number;
  readonly restPolicy?: RestPolicy;
  readonly logger: Logger;
}

/** One attempt: whom it asks, and what came of it. */
export interface Route {
  readonly client: RegistryClient;
  /** Undefined for the origin. */
  readonly mirror: Mirror | undefined;
  readonly startedAt: number;
}

export class RegistryRoutes {
  readonly #options: RegistryRoutesOptions;
  readonly #mirrors: readonly Mirror[];
  /** What mirrors have sent of each blob lately, by path, the latest last. A source reads some dozen blobs. */
  readonly #sent = new Map<string, Array<{ readonly mirror: Mirror; readonly range: ByteRange }>>();

  constructor(options: RegistryRoutesOptions) {
    this.#options = options;
    const policy = options.restPolicy ?? defaultRestPolicy;
    this.#mirrors = options.mirrors.map((route) => new Mirror(route, policy));
  }

  /** How each mirror does, in their order. */
  describe(): MirrorState[] {
    const now = performance.now();
    return this.#mirrors.map((mirror) => mirror.describe(now));
  }

  /** Whom to ask for `path` now, without those of `tried`. To be ended with `leave` or `blame`. */
  choose(path: string, tried: ReadonlySet<Mirror>): Route {
    const startedAt = performance.now();
    const mirror = this.#mirrors.find((each) => !tried.has(each) && each.isUsable(path, startedAt));
    mirror?.begin();
    return { client: mirror?.client ?? this.#options.origin, mirror, startedAt };
  }

  /** The time limit of an attempt; undefined for the origin, which the caller's own deadline bounds. */
  patience(route: Route, signal: AbortSignal): MirrorPatience | undefined {
    const { mirrorTimeoutMs } = this.#options;
    return route.mirror && new MirrorPatience(route.mirror.name, mirrorTimeoutMs, signal);
  }

  /** A note of what `route` sends of `path` from `start` on; whoever reads it moves its `end`. */
  note({ mirror }: Route, path: string, start: number): { end: number } {
    const range = { start, end: start };
    if (!mirror) return range;
    const sent = this.#sent.get(path) ?? [];
    this.#sent.set(path, [...sent, { mirror, range }].slice(-sentMax));
    return range;
  }

  /** The attempt is over, without a failure of the mirror. `well`: it did what was asked. */
  leave(route: Route, well: boolean): void {
    route.mirror?.leave(well);
  }

  /**
   * Ends an attempt that failed. True where it was a mirror's own failure: it rests from now on, and somebody else is to be asked. False where the
   * origin failed, or the call is over.
   */
  blame(route: Route, path: string, failure: unknown, scope: CallScope): boolean {
    const { mirror, startedAt } = route;
    if (!mirror || scope.signal.aborted || isSkimError(failure, "CANCELLED")) {
      mirror?.leave(false);
      return false;
    }
    const reason = redact(describeError(failure)).slice(0, reasonCharactersMax);
    mirror.failed(path, failure, reason, startedAt);
    this.#options.logger.warn({ mirror: mirror.name, reason }, "mirror failed; asking the next one");
    return true;
  }

  /** The failure of an attempt at the origin, with what kept its mirrors from being asked. */
  explained(failure: unknown, path: string): unknown {
    const now = performance.now();
    const reasons = this.#mirrors.flatMap((mirror) => mirror.restsBecause(path, now) ?? []);
    if (reasons.length === 0) return failure;
    const extended = (error: SkimError) =>
      new SkimError(error.code, `${error.message}; before that: ${reasons.join("; ")}`, { cause: error });
    if (failure instanceof TransientFailure)
      return new TransientFailure(extended(failure.error), failure.retryAfterMs, failure.wasRepeated);
    return isSkimError(failure) && failure.code !== "CANCELLED" ? extended(failure) : failure;
  }

  /**
   * Bytes in this range of `path` were wrong: the mirror that sent some of them last is not asked for it for a while. True where there is one: somebody
   * else is asked the next time.
   */
  damaged(path: string, range: ByteRange): boolean {
    const sent = this.#sent.get(path) ?? [];
    const mirror = sent.findLast((each) => overlaps(each.range, range))?.mirror;
    if (!mirror) {
      this.#options.origin.forgetRedirect(path);
      return false;
    }
    const now = performance.now();
    const blamed = this.#mirrors.some((each) => each !== mirror && each.wasWrong(path, now));
    for (const each of blamed ? this.#mirrors : [mirror]) each.rememberWrong(path, now);
    this.#sent.set(
      path,
      sent.filter((each) => each.mirror !== mirror),
    );
    this.#options.logger.warn({ mirror: mirror.name, path }, "mirror sent wrong bytes; asking the next one");
    return true;
  }

  /** Asks one after the other until `work` succeeds. Throws what the origin fails with. */
  async each<T>(
    path: string,
    scope: CallScope,
    work: (client: RegistryClient, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const tried = new Set<Mirror>();
    for (;;) {
      const route = this.choose(path, tried);
      const patience = this.patience(route, scope.signal);
      try {
        const result = await work(route.client, patience?.signal ?? scope.signal);
        this.leave(route, true);
        return result;
      } catch (failure) {
        if (!this.blame(route, path, failure, scope)) throw this.explained(failure, path);
        tried.add(route.mirror!);
      } finally {
        patience?.end();
      }
    }
  }
}

function overlaps(a: ByteRange, b: ByteRange): boolean {
  return a.start < b.end && b.start < a.end;
}

/** A mirror and its rests: one for everything, and one for each blob or manifest that it has not got, or has wrong. */
export class Mirror {
  readonly name: string;
  readonly client: RegistryClient;
  readonly #policy: RestPolicy;
  readonly #rest: Rest;
  readonly #missing = new Map<string, Rest>();
  readonly #wrong = new Map<string, Rest>();
  #onTrial = false;

  constructor(route: MirrorRoute, policy: RestPolicy) {
    this.name = route.name;
    this.client = route.client;
    this.#policy = policy;
    this.#rest = new Rest(policy);
  }

  isUsable(path: string, now: number): boolean {
    if (this.#rest.isResting(now) || (this.#rest.hasFailed && this.#onTrial)) return false;
    return !this.#missing.get(path)?.isResting(now) && !this.wasWrong(path, now);
  }

  begin(): void {
    if (this.#rest.hasFailed) this.#onTrial = true;
  }

  leave(well: boolean): void {
    this.#onTrial = false;
    if (well) this.#rest.end();
  }

  failed(path: string, failure: unknown, reason: string, startedAt: number): void {
    this.#onTrial = false;
    this.client.forgetRedirect(path);
    const error = failure instanceof TransientFailure ? failure.error : failure;
    const now = performance.now();
    const ofPath = isSkimError(error, "NOT_FOUND")
      ? this.#missing
      : isSkimError(error, "DIGEST_MISMATCH")
        ? this.#wrong
        : undefined;
    // Who has not got something is well.
    if (ofPath) this.#rest.end();
    const rest = ofPath ? this.#restOf(ofPath, path) : this.#rest;
    rest.begin(reason, startedAt, now, failure instanceof TransientFailure ? failure.retryAfterMs : 0);
  }

  wasWrong(path: string, now: number): boolean {
    return this.#wrong.get(path)?.isResting(now) ?? false;
  }

  /** For as long as a rest can be: nothing says when it is right again, and a pass over a layer that is large takes minutes. */
  rememberWrong(path: string, now: number): void {
    this.client.forgetRedirect(path);
    this.#restOf(this.#wrong, path, { ...this.#policy, firstMs: this.#policy.msMax }).begin(
      `mirror ${this.name} sent wrong bytes`,
      now,
      now,
    );
  }

  restsBecause(path: string, now: number): string | undefined {
    const rests = [this.#rest, this.#missing.get(path), this.#wrong.get(path)];
    return rests.find((rest) => rest?.isResting(now))?.reason;
  }

  describe(now: number): MirrorState {
    const resting = (rests: Map<string, Rest>) =>
      [...rests.values()].filter((rest) => rest.isResting(now)).length;
    return {
      name: this.name,
      state: this.#rest.isResting(now) ? "resting" : this.#onTrial ? "on trial" : "in use",
      ...(this.#rest.isResting(now)
        ? { restMs: Math.ceil(this.#rest.leftMs(now)), reason: this.#rest.reason }
        : {}),
      missingBlobs: resting(this.#missing),
      wrongBlobs: resting(this.#wrong),
    };
  }

  #restOf(rests: Map<string, Rest>, path: string, policy = this.#policy): Rest {
    const rest = rests.get(path) ?? new Rest(policy);
    rests.set(path, rest);
    return rest;
  }
}
