/**
 * The other end of a session: writes requests, reads replies, and knows what has not been answered.
 *
 * Reading and writing happen on libuv's threads, so that neither side ever waits for the other while this one's JavaScript runs. A socket with a read
 * under way does not really close: so the last thing that is read is the reply to the last request (`finish`), and after that nothing.
 */
import { closeSync, read, write } from "node:fs";
import { decodeReply, encodeRequest, opcodes, type Reply, rootNode } from "../support/fuse-protocol.js";
import { checkReply, expectsReply, type SentRequest, sentRequest } from "./fuse-checks.js";
import { claim } from "./fuzzer.js";

/** Beyond those of any request. */
const lastUnique = 2n ** 64n - 3n;

export class FuzzKernel {
  readonly #fd: number;
  readonly #onReply: (request: SentRequest, reply: Reply) => void;
  readonly #outstanding = new Map<bigint, SentRequest>();
  readonly #reading: Promise<void>;
  #isFinished = false;
  #onChange = () => {};
  #failure: unknown;

  constructor(fd: number, onReply: (request: SentRequest, reply: Reply) => void) {
    this.#fd = fd;
    this.#onReply = onReply;
    this.#reading = this.#readAll().catch((error: unknown) => {
      this.#failure = error;
      this.#onChange();
    });
  }

  get outstanding(): readonly SentRequest[] {
    return [...this.#outstanding.values()];
  }

  async send(packet: Buffer): Promise<void> {
    this.#rethrow();
    const request = sentRequest(packet);
    if (request && expectsReply(request)) {
      claim(!this.#outstanding.has(request.unique), "a fuzzer uses each unique once");
      this.#outstanding.set(request.unique, request);
    }
    await new Promise<void>((resolve, reject) => {
      write(this.#fd, packet, 0, packet.length, null, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Until every request has its reply. */
  async settled(): Promise<void> {
    while (this.#outstanding.size > 0) {
      this.#rethrow();
      await new Promise<void>((resolve) => {
        this.#onChange = resolve;
      });
    }
    this.#rethrow();
  }

  /** Asks twice for STATFS, which must still be answered, and reads nothing any more. What is outstanding stays so. */
  async finish(): Promise<void> {
    for (const unique of [lastUnique - 2n, lastUnique])
      await this.send(encodeRequest(opcodes.statfs, unique, rootNode));
    await this.#reading;
    this.#rethrow();
  }

  close(): void {
    closeSync(this.#fd);
  }

  async #readAll(): Promise<void> {
    const packet = Buffer.allocUnsafeSlow(256 * 1024);
    while (!this.#isFinished) {
      const length = await new Promise<number>((resolve, reject) => {
        read(this.#fd, packet, 0, packet.length, null, (error, bytes) =>
          error ? reject(error) : resolve(bytes),
        );
      });
      claim(length > 0, "the session has closed its end");
      const reply = decodeReply(packet.subarray(0, length));
      const request = this.#outstanding.get(reply.unique);
      claim(request !== undefined, `a reply to ${reply.unique}, which waits for none`);
      this.#outstanding.delete(reply.unique);
      try {
        checkReply(request, reply);
        this.#onReply(request, reply);
      } catch (cause) {
        const { opcode, nodeid, body } = request;
        const what = `opcode ${opcode}, node ${nodeid}, body ${body.toString("hex", 0, 64)}: error ${reply.error}`;
        throw new Error(`${(cause as Error).message}; ${what}, ${reply.body.length} bytes`, { cause });
      }
      if (reply.unique === lastUnique) {
        claim(reply.error === 0, "STATFS is answered at the end");
        this.#isFinished = true;
      }
      this.#onChange();
    }
  }

  #rethrow(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
