/**
 * The scanner with mutated blobs, and the decoder with mutated span records, windows and bytes.
 *
 * What they may do is to refuse, always in the same words, or to give the right bytes: those that the scan saw, or those of the digest.
 */
import { Compression, type NativeBinding, SPAN_RECORD_BYTES } from "../../src/native/binding.js";
import { mutated } from "../support/mutator.js";
import type { Corpus } from "./corpus.js";
import { claim, exact, type Fuzzer } from "./fuzzer.js";
import type { Random } from "./random.js";

type CompressionNumber = (typeof Compression)[keyof typeof Compression];

interface ScanInput {
  readonly compression: CompressionNumber;
  readonly blob: Buffer;
  readonly spanBytes: number;
  readonly pieceBytes: number;
  readonly outputBytes: number;
}

interface DecodeInput {
  readonly compression: CompressionNumber;
  readonly records: Buffer;
  readonly window: Buffer;
  readonly compressed: Buffer;
  readonly pieceBytes: number;
  /** What the spans have if they have their digests. */
  readonly spans: readonly Buffer[];
}

interface Scanned {
  readonly compression: CompressionNumber;
  readonly blob: Buffer;
  readonly stream: Buffer;
  readonly records: Buffer;
  readonly windows: Buffer;
}

export async function scannerFuzzer(native: NativeBinding, corpus: Corpus): Promise<Fuzzer<ScanInput>> {
  return {
    make(random) {
      const { compression, bytes } = random.pick(corpus.blobs);
      return {
        compression: random.oneIn(20) ? random.pick(Object.values(Compression)) : Compression[compression],
        blob: random.oneIn(30) ? random.bytes(random.below(500)) : mutated(bytes, random.below),
        spanBytes: random.between(1024, 8192),
        pieceBytes: random.oneIn(4) ? random.between(1, 40) : random.between(1, 8000),
        outputBytes: random.oneIn(4) ? random.between(1, 300) : random.between(1, 70_000),
      };
    },
    async run(input) {
      const scanned = await refusalOr("LAYER_CORRUPT", () => scan(native, input));
      if (typeof scanned === "string") return scanned;
      for (const run of runsOf(scanned)) {
        const made = await decode(native, { ...run, pieceBytes: input.pieceBytes });
        expectSpans(made, run.spans);
        claim(made.length === run.spans.length, "all spans of a scan can be decoded");
      }
      return "scanned";
    },
  };
}

export async function decoderFuzzer(native: NativeBinding, corpus: Corpus): Promise<Fuzzer<DecodeInput>> {
  const runs: DecodeInput[][] = [];
  for (const { compression, bytes } of corpus.blobs) {
    const options = { spanBytes: 4096, pieceBytes: bytes.length, outputBytes: 65536 };
    runs.push(runsOf(await scan(native, { compression: Compression[compression], blob: bytes, ...options })));
  }
  return {
    make(random) {
      const run = random.pick(random.pick(runs));
      const count = random.between(1, run.spans.length);
      const changes = random.between(0, 15);
      return {
        compression: random.oneIn(30) ? random.pick(Object.values(Compression)) : run.compression,
        records: recordsFrom(random, run.records.subarray(0, count * SPAN_RECORD_BYTES), changes),
        window: changes & 2 ? mutated(run.window, random.below) : run.window,
        compressed: changes & 4 ? mutated(run.compressed, random.below) : run.compressed,
        pieceBytes: random.between(1, 3000),
        spans: run.spans,
      };
    },
    async run(input) {
      const made = await refusalOr(["SPAN_CORRUPT", "SPAN_DIGEST"], () => decode(native, input));
      if (typeof made === "string") return made;
      expectSpans(made, input.spans);
      return made.length > 0 ? "decoded" : "nothing";
    },
  };
}

/** Digests stay as they are: with another one nothing could come out. */
function recordsFrom(random: Random, records: Buffer, changes: number): Buffer {
  if ((changes & 8) === 0) return records;
  if (random.oneIn(10)) return random.bytes(random.below(400));
  if (random.oneIn(10)) return mutated(records, random.below);
  const copy = Buffer.from(records);
  const record = random.below(records.length / SPAN_RECORD_BYTES) * SPAN_RECORD_BYTES;
  if (random.oneIn(2)) copy[record + random.below(48)]! ^= 1 << random.below(8);
  else copy.writeUInt32LE(random.telling(), record + random.below(12) * 4);
  return copy;
}

/** The code of a refusal, where it is one of those that are allowed. */
async function refusalOr<Result>(codes: string | readonly string[], act: () => Promise<Result>) {
  try {
    return await act();
  } catch (error) {
    const code = codeOf(error);
    if (code !== undefined && codes.includes(code)) return code;
    throw error;
  }
}

const codeOf = (error: unknown) => (error as { code?: string }).code;

function expectSpans(made: readonly Buffer[], spans: readonly Buffer[]): void {
  made.forEach((bytes, i) => {
    claim(spans[i] !== undefined && bytes.equals(spans[i]), `span ${i} has its digest, but not its bytes`);
  });
}

async function scan(native: NativeBinding, input: ScanInput): Promise<Scanned> {
  const { compression, blob, pieceBytes } = input;
  const scanner = native.scannerOpen(compression, input.spanBytes);
  const output = new Uint8Array(new ArrayBuffer(input.outputBytes));
  const made: Buffer[] = [];
  const read = () => native.scannerRead(scanner, output);
  try {
    for (let at = 0; at < blob.length; at += pieceBytes) {
      native.scannerWrite(scanner, exact(blob.subarray(at, at + pieceBytes)));
      for (let length = await read(); length > 0; length = await read())
        made.push(Buffer.from(output.subarray(0, length)));
    }
    const { spanRecords, windows, compressedBytes } = await native.scannerFinish(scanner);
    claim(compressedBytes === blob.length, "a scan counts the bytes of the blob");
    return {
      compression,
      blob,
      stream: Buffer.concat(made),
      records: Buffer.from(spanRecords),
      windows: Buffer.from(windows),
    };
  } catch (error) {
    await expectSame(error, read);
    await expectSame(error, () => native.scannerFinish(scanner));
    throw error;
  }
}

async function decode(native: NativeBinding, input: DecodeInput): Promise<Buffer[]> {
  const { compression, compressed, pieceBytes } = input;
  const decoder = native.decoderOpen(compression, exact(input.records), exact(input.window));
  const made: Buffer[] = [];
  const next = () => native.decoderNext(decoder);
  try {
    for (let at = 0; at < compressed.length; at += pieceBytes) {
      native.decoderWrite(decoder, exact(compressed.subarray(at, at + pieceBytes)));
      for (let span = await next(); span !== null; span = await next()) made.push(Buffer.from(span));
    }
  } catch (error) {
    await expectSame(error, next);
    throw error;
  }
  return made;
}

/** Who has failed says the same again. */
async function expectSame(error: unknown, again: () => Promise<unknown>): Promise<void> {
  if (codeOf(error)?.startsWith("ERR_")) return;
  const second = await again().then(
    () => undefined,
    (other: unknown) => other,
  );
  claim((second as Error | undefined)?.message === (error as Error).message, "a failure is said again");
}

/** The spans of a scan from each restart point to the next one. Offsets are those of FORMAT.md. */
function runsOf({ compression, blob, stream, records, windows }: Scanned): DecodeInput[] {
  const starts: number[] = [];
  for (let at = 0; at < records.length; at += SPAN_RECORD_BYTES) if (records[at + 12] !== 0) starts.push(at);
  return starts.map((start, i) => {
    // A few spans more than necessary: decoding goes on behind the next restart point.
    const end = Math.min(records.length, (starts[i + 1] ?? records.length) + 2 * SPAN_RECORD_BYTES);
    const own = records.subarray(start, end);
    const windowOffset = Number(own.readBigUInt64LE(32));
    const spans: Buffer[] = [];
    for (let at = 0; at < own.length; at += SPAN_RECORD_BYTES) {
      const offset = Number(own.readBigUInt64LE(at));
      spans.push(stream.subarray(offset, offset + own.readUInt32LE(at + 8)));
    }
    return {
      compression,
      records: own,
      window: windows.subarray(windowOffset, windowOffset + own.readUInt32LE(40)),
      compressed: blob.subarray(
        Number(own.readBigUInt64LE(16)),
        Number(own.readBigUInt64LE(own.length - SPAN_RECORD_BYTES + 24)),
      ),
      pieceBytes: blob.length,
      spans,
    };
  });
}
