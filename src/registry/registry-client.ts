import { SingleFlight } from "../base/single-flight.js";
import { Authorizer, type AuthorizerOptions } from "./authorizer.js";
import { parseChallenges } from "./challenge.js";
import { type Endpoint, saysItSpeaksTls } from "./endpoint.js";
import type { OpenRegistries } from "./open-registries.js";
import { getFollowing } from "./redirects.js";
import { protocolFailure, refusal } from "./refusals.js";
import type { HttpResponse } from "./transport.js";

/** `origin`: `http:` becomes `https:` where the registry turns out to speak TLS. */
export type RegistryClientOptions = AuthorizerOptions &
  Endpoint & {
    /** Default: every registry is greeted. */
    readonly openRegistries?: OpenRegistries | undefined;
  };

/**
 * One attempt to GET something of one repository: finds out how the registry wants to be spoken to, adds the Authorization it
 * asks for, follows redirects, and tries once more with new credentials where the old ones are refused. Repeating attempts is left to callers.
 *
 * Before anything else, one GET of /v2/ (single-flight, however many readers begin at once) tells whether a registry that
 * may be spoken to in the clear speaks TLS, and what it challenges with: so a hundred readers of a fresh mount do not collect a
 * hundred refusals. Its failure is no failure of the attempt unless nothing answers at all. It is left out where the registry is known to ask for nothing.
 */
export class RegistryClient {
  readonly #options: RegistryClientOptions;
  readonly #authorizer: Authorizer;
  readonly #greetings = new SingleFlight<"greeting", void>();
  /** Where each blob was last redirected to, by path. A source reads some dozen blobs. */
  readonly #redirected = new Map<string, URL>();
  #origin: string;
  #greeted = false;

  constructor(options: RegistryClientOptions) {
    this.#options = options;
    this.#authorizer = new Authorizer(options);
    this.#origin = options.origin;
  }

  /** The host as the user named it. */
  get registry(): string {
    return this.#options.registry;
  }

  /**
   * GETs `path` below /v2/REPOSITORY/ and resolves to a 2xx answer. `what` names it in errors. With `remember`, the URL that a redirect
   * led to is asked directly the next time; a refusal there (a signed URL expires) sends the request through the registry again.
   * Throws NOT_FOUND, AUTH_FAILED, REGISTRY_PROTOCOL, or TransientFailure.
   */
  async get(
    path: string,
    headers: Readonly<Record<string, string>>,
    options: { what: string; signal: AbortSignal; remember?: boolean },
  ): Promise<HttpResponse> {
    const { what, signal, remember = false } = options;
    const shortcut = remember ? this.#redirected.get(path) : undefined;
    if (shortcut) {
      const response = await this.#getStored(path, shortcut, headers, what, signal);
      if (response) return response;
    }
    await this.#greet(signal);
    const authorization = await this.#authorizer.header(signal);
    const response = await this.#getAuthorized(path, headers, authorization, what, signal);
    if (remember && response.url.origin !== this.#origin) this.#redirected.set(path, response.url);
    return response;
  }

  /** Asks for the blob at `path` through the registry the next time: what its storage gave was not right. */
  forgetRedirect(path: string): void {
    this.#redirected.delete(path);
  }

  /** Undefined where the stored URL is not good any more. */
  async #getStored(
    path: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    what: string,
    signal: AbortSignal,
  ): Promise<HttpResponse | undefined> {
    const response = await this.#follow(url, headers, undefined, signal);
    if (response.status >= 200 && response.status < 300) return response;
    if (![400, 401, 403, 404, 410].includes(response.status)) throw this.#refusal(response, undefined, what);
    this.#redirected.delete(path);
    return undefined;
  }

  async #getAuthorized(
    path: string,
    headers: Readonly<Record<string, string>>,
    authorization: string | undefined,
    what: string,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const { repository, mirrorOf } = this.#options;
    const url = new URL(`/v2/${repository}/${path}`, this.#origin);
    if (mirrorOf !== undefined) url.searchParams.set("ns", mirrorOf);
    let used = authorization;
    let response = await this.#follow(url, headers, used, signal);
    if (this.#mayRenew(response, used)) {
      this.#noteOpen(false);
      const challenges = parseChallenges(response.headers["www-authenticate"]);
      const renewed = await this.#authorizer.afterRefusal(challenges, used, signal);
      if (renewed !== undefined) {
        used = renewed;
        response = await this.#follow(url, headers, used, signal);
      }
    }
    if (response.status >= 200 && response.status < 300) return response;
    if (url.protocol === "http:" && saysItSpeaksTls(response.status, response.errorText)) {
      // It did not when it was greeted: it is greeted anew with the next attempt.
      this.#greeted = false;
      throw protocolFailure(`${what}: ${url.host} speaks TLS now`);
    }
    throw this.#refusal(response, used, what);
  }

  /** ECR answers 403, not 401, when a token has expired. */
  #mayRenew(response: HttpResponse, used: string | undefined): boolean {
    if (response.url.origin !== this.#origin) return false;
    const challenged = response.headers["www-authenticate"] !== undefined;
    return response.status === 401 || (response.status === 403 && (used !== undefined || challenged));
  }

  #refusal(response: HttpResponse, authorization: string | undefined, what: string): Error {
    const byRegistry = response.url.origin === this.#origin;
    return refusal(response, { what, byRegistry, authorization, findings: this.#authorizer.findings });
  }

  #follow(
    url: URL,
    headers: Readonly<Record<string, string>>,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const { transport } = this.#options;
    return getFollowing(url, headers, { transport, signal, authorization, secretOrigin: this.#origin });
  }

  async #greet(signal: AbortSignal): Promise<void> {
    this.#greeted ||= this.#options.openRegistries?.has(this.#origin) ?? false;
    if (this.#greeted) return;
    await this.#greetings.run("greeting", (flightSignal) => this.#askForVersion(flightSignal), signal);
  }

  async #askForVersion(signal: AbortSignal): Promise<void> {
    const { transport } = this.#options;
    let response = await transport.send({ url: new URL("/v2/", this.#origin), headers: {} }, signal);
    if (this.#origin.startsWith("http:") && saysItSpeaksTls(response.status, response.errorText)) {
      this.#origin = this.#origin.replace(/^http:/, "https:");
      response = await transport.send({ url: new URL("/v2/", this.#origin), headers: {} }, signal);
    }
    const { status, headers } = response;
    if (status >= 200 && status < 300) await transport.discard(response);
    if (status === 401 || (status >= 200 && status < 300)) this.#noteOpen(status !== 401);
    if (status === 401) this.#authorizer.learn(parseChallenges(headers["www-authenticate"]), "ours");
    // A registry in trouble is asked again; the request itself will tell what trouble that is.
    this.#greeted = status < 500 && status !== 429;
  }

  /** Not of one that turned out to speak TLS: it has to be found out each time. */
  #noteOpen(isOpen: boolean): void {
    const { origin, openRegistries } = this.#options;
    if (origin === this.#origin) openRegistries?.note(origin, isOpen);
  }
}
