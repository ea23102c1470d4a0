import type { FakeAnswer, SeenRequest } from "./fault-script.js";
import { rangeAnswer } from "./range-answer.js";
import { ScriptedServer, type ServerStart } from "./scripted-server.js";

/** What object storage says to a URL whose signature is not good any more. */
export const expiredAnswers = {
  s3: {
    status: 400,
    body: "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
  },
  s3Signature: {
    status: 403,
    body: "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
  },
  azure: { status: 403, body: "<Error><Code>AuthenticationFailed</Code></Error>" },
  missing: { status: 404, body: "<Error><Code>NoSuchKey</Code></Error>" },
  gone: { status: 410, body: "" },
} as const;

/**
 * Object storage that a registry redirects to: it answers URLs that it has signed, as long as they are good, and refuses who sends credentials along
 * as S3 does.
 */
export class FakeStorage extends ScriptedServer {
  /** The answer to URLs that have expired. */
  expired: { status: number; body: string } = expiredAnswers.s3;
  readonly #objects = new Map<string, Buffer>();
  readonly #signatures = new Set<string>();
  #signed = 0;

  static async start(start?: ServerStart): Promise<FakeStorage> {
    const storage = new FakeStorage();
    await storage.listen(start);
    return storage;
  }

  put(name: string, bytes: Buffer): void {
    this.#objects.set(name, bytes);
  }

  signedUrl(name: string): string {
    const signature = `secret-signature-${++this.#signed}`;
    this.#signatures.add(signature);
    return `${this.url}/store/${name}?X-Amz-Credential=secret-key-id&X-Amz-Signature=${signature}`;
  }

  /** Every URL given out so far is refused from now on. */
  expireUrls(): void {
    this.#signatures.clear();
  }

  protected answerTo(seen: SeenRequest): FakeAnswer {
    const object = this.#objects.get(seen.path.replace("/store/", ""));
    const headers = { "content-type": "application/xml" };
    if (seen.headers.authorization) {
      const body = Buffer.from("<Error><Code>InvalidArgument</Code></Error>");
      return { status: 400, headers, body };
    }
    if (!this.#signatures.has(seen.query.get("X-Amz-Signature") ?? "")) {
      return { status: this.expired.status, headers, body: Buffer.from(this.expired.body) };
    }
    if (!object) return { status: 404, headers, body: Buffer.from("<Error><Code>NoSuchKey</Code></Error>") };
    return rangeAnswer(object, seen.headers.range);
  }
}
