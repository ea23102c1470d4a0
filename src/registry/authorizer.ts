import { describeError, isSkimError, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { redact } from "../base/redact.js";
import { SingleFlight } from "../base/single-flight.js";
import { CallScope } from "./call-scope.js";
import type { Challenge } from "./challenge.js";
import type { CredentialLookup, FoundCredentials } from "./credentials.js";
import { Attempts, type RetryPolicy, retrying, TransientFailure } from "./retry.js";
import { requestToken, type Token, type TokenService } from "./token-service.js";
import type { Transport } from "./transport.js";

/**
 * The Authorization header for one repository, kept as long as it is good.
 *
 * A 401 tells the scheme: Basic sends the credentials themselves, Bearer a token from the service that the challenge names. However many readers
 * need a token at once, one request fetches it. It is renewed in the background a while before it expires, so that no reader
 * waits; a header that the registry refuses is dropped, the credentials are looked up again, and who was refused tries once more.
 */
export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #flights = new SingleFlight<"renewal", Grant>();
  #challenge: { scheme: "basic" } | { scheme: "bearer"; service: TokenService } | undefined;
  #grant: Grant | undefined;
  #found = "";

  constructor(options: AuthorizerOptions) {
    this.#options = options;
  }

  /** Where credentials were looked for and what came of it, as the end of a message. */
  get findings(): string {
    return this.#found;
  }

  /**
   * The header to send, undefined where the registry has asked for none or nothing is known to answer it with. Throws AUTH_FAILED,
   * REGISTRY_UNAVAILABLE or REGISTRY_PROTOCOL of the token service, after its own retries.
   */
  async header(signal: AbortSignal): Promise<string | undefined> {
    if (!this.#challenge) return undefined;
    const grant = this.#grant;
    const now = Date.now();
    if (grant && now < grant.expiresAt) {
      if (now >= grant.renewAt && !this.#flights.has("renewal")) this.#renewInBackground();
      return grant.header;
    }
    return (await this.#renew(signal)).header;
  }

  /**
   * Learns from a refusal: `used` was not good enough, `challenges` say what would be. Resolves to a header worth
   * another try, undefined where there is none. Throws as `header` does.
   */
  async afterRefusal(
    challenges: readonly Challenge[],
    used: string | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    this.learn(challenges, "theirs");
    if (this.#grant?.header === used) this.#grant = undefined;
    const next = await this.header(signal);
    return next === used ? undefined : next;
  }

  /**
   * Takes the scheme, and for Bearer the token service, from a registry's challenges. The scope in the refusal of a
   * request is what it needs (`theirs`); the one in a challenge of /v2/ is a placeholder at some registries (ghcr.io).
   */
  learn(challenges: readonly Challenge[], scope: "ours" | "theirs"): void {
    const bearer = challenges.find((each) => each.scheme === "bearer" && each.parameters.get("realm"));
    if (bearer) {
      const asked = scope === "theirs" ? bearer.parameters.get("scope") : undefined;
      const service: TokenService = {
        realm: bearer.parameters.get("realm")!,
        service: bearer.parameters.get("service"),
        scope: asked || `repository:${this.#options.repository}:pull`,
      };
      this.#challenge = { scheme: "bearer", service };
    } else if (challenges.some((each) => each.scheme === "basic")) {
      this.#challenge = { scheme: "basic" };
    } else if (challenges.length > 0 && !this.#challenge) {
      const schemes = challenges.map((each) => redact(each.scheme)).join(", ");
      this.#found = `it asks for ${schemes}; skim knows Basic and Bearer`;
    }
  }

  #renewInBackground(): void {
    const { closed, logger } = this.#options;
    this.#renew(closed).catch((error: unknown) => {
      if (!closed.aborted) logger.warn({ reason: redact(describeError(error)) }, "token not renewed yet");
    });
  }

  #renew(signal: AbortSignal): Promise<Grant> {
    return this.#flights.run(
      "renewal",
      async (flightSignal) => {
        const grant = await this.#obtain(flightSignal);
        this.#grant = grant;
        return grant;
      },
      signal,
    );
  }

  async #obtain(signal: AbortSignal): Promise<Grant> {
    const challenge = this.#challenge!;
    const found = await this.#lookUp(signal);
    const credentials = found?.credentials;
    if (credentials?.kind === "registryToken") return lasting(`Bearer ${credentials.token}`);
    if (challenge.scheme === "basic") {
      if (credentials?.kind !== "password") return lasting(undefined);
      const pair = Buffer.from(`${credentials.username}:${credentials.password}`, "utf8").toString("base64");
      return lasting(`Basic ${pair}`);
    }
    const { registry, repository, policy, logger } = this.#options;
    const scope = new CallScope(`getting a token for ${registry}/${repository}`, signal);
    const attempts = new Attempts(policy, scope, logger);
    try {
      const token = await retrying(attempts, () =>
        requestToken(challenge.service, found, { ...this.#options, signal: scope.signal }),
      );
      return bearerGrant(token);
    } catch (error) {
      if (attempts.exhausted && isSkimError(error, "REGISTRY_UNAVAILABLE"))
        throw new TransientFailure(error, undefined, true);
      if (!isSkimError(error, "AUTH_FAILED") || !this.#found) throw error;
      throw new SkimError("AUTH_FAILED", `${error.message}; ${this.#found}`, { cause: error });
    } finally {
      scope.end();
    }
  }

  /** A file or helper that cannot be used is no reason to refuse: the image may be public. It is named if that fails. */
  async #lookUp(signal: AbortSignal): Promise<FoundCredentials | undefined> {
    const { registry, repository, lookUpCredentials, logger } = this.#options;
    try {
      const found = await lookUpCredentials(registry, repository, signal);
      this.#found = found
        ? `credentials from ${found.origin}`
        : `no credentials; try: docker login ${registry}`;
      return found;
    } catch (error) {
      if (signal.aborted) throw error;
      this.#found = redact(describeError(error));
      logger.warn({ reason: this.#found }, "credentials cannot be used");
      return undefined;
    }
  }
}

export interface AuthorizerOptions {
  readonly registry: string;
  readonly repository: string;
  readonly insecureRegistries: readonly string[];
  readonly transport: Transport;
  readonly lookUpCredentials: CredentialLookup;
  readonly policy: RetryPolicy;
  readonly logger: Logger;
  /** Fires when the source is closed: ends what no caller waits for. */
  readonly closed: AbortSignal;
}

/** A header and how long it is good. Times of Date.now(). */
interface Grant {
  readonly header: string | undefined;
  readonly renewAt: number;
  readonly expiresAt: number;
}

/** Good until it is refused. Without a header it is not kept: credentials may be there the next time. */
function lasting(header: string | undefined): Grant {
  const until = header === undefined ? 0 : Number.POSITIVE_INFINITY;
  return { header, renewAt: until, expiresAt: until };
}

/** Renewed after 70 to 85 % of its life: early, and not by every host of a fleet in the same second. */
function bearerGrant(token: Token): Grant {
  const now = Date.now();
  return {
    header: `Bearer ${token.value}`,
    renewAt: now + token.lifetimeMs * (0.7 + Math.random() * 0.15),
    expiresAt: now + token.lifetimeMs,
  };
}
