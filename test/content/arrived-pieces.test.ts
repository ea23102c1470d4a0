import { describe, expect, it } from "vitest";
import { ArrivedPieces } from "../../src/content/arrived-pieces.js";

/** All pieces arrive before the first is taken. */
async function taken(sent: readonly Uint8Array[]): Promise<Uint8Array[][]> {
  async function* source() {
    yield* sent;
  }
  const arrived = new ArrivedPieces(source(), () => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  const all: Uint8Array[][] = [];
  for (;;) {
    const pieces = await arrived.take();
    if (pieces.length === 0) break;
    all.push(pieces);
  }
  await arrived.close();
  return all;
}

describe("pieces of an answer", () => {
  it("are handed on as they came", async () => {
    const sent = [Buffer.alloc(60_000, 1), Buffer.alloc(10, 2), Buffer.alloc(5000, 3)];
    const [pieces, ...others] = await taken(sent);
    expect(others).toEqual([]);
    expect(pieces?.map((piece, number) => piece === sent[number])).toEqual([true, true, true]);
  });

  it("are put together where a server sends bytes one by one", async () => {
    const bytes = Buffer.from("a body in chunks of a byte");
    expect(await taken([...bytes].map((byte) => Buffer.of(byte)))).toEqual([[bytes]]);
  });
});
