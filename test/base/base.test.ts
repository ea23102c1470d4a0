import { describe, expect, it } from "vitest";
import {
  byteStringFromText,
  byteStringOf,
  bytesOf,
  displayText,
  parseDisplayText,
  textOf,
} from "../../src/base/byte-string.js";
import { describeError, SkimError } from "../../src/base/errors.js";
import { redact } from "../../src/base/redact.js";
import { Semaphore } from "../../src/base/semaphore.js";
import { resolveSettings } from "../../src/base/settings.js";
import { SingleFlight } from "../../src/base/single-flight.js";
import { UndoStack } from "../../src/base/undo-stack.js";

describe("a byte string", () => {
  it("keeps every byte, sorts as bytes do, and is shown so that it can be read back", () => {
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    expect(bytesOf(byteStringOf(all)).equals(all)).toBe(true);
    expect(parseDisplayText(displayText(byteStringOf(all)))).toBe(byteStringOf(all));
    expect(byteStringOf(Buffer.from([0x7f])) < byteStringOf(Buffer.from([0x80]))).toBe(true);
    expect(displayText(byteStringFromText("grün\n\\"))).toBe("grün\\x0a\\\\");
    expect(textOf(byteStringFromText("\ufffd"))).toBe("\ufffd");
    expect(textOf(byteStringOf(Buffer.from([0xff])))).toBeUndefined();
  });
});

describe("redact", () => {
  it.each([
    ["Authorization: Bearer abcdefghijk.lmn", "abcdefghijk"],
    ["authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"],
    ["GET https://user:pw@host/x", "user:pw"],
    ["GET https://s3/x?X-Amz-Signature=0123&y=1 failed", "0123"],
    ['{"access_token":"sekret","expires_in":60}', "sekret"],
    ["password=hunter2", "hunter2"],
    ["bad request: X-Amz-Credential=AKIA0/x&X-Amz-Signature=0123", "0123"],
    ["bad request: X-Amz-Credential=AKIA0/x&X-Amz-Signature=0123", "AKIA0"],
    ["se=2026&sig=ab%2Bcd denied", "ab%2Bcd"],
  ])("cuts the secret out of %j", (text, secret) => {
    expect(redact(text)).not.toContain(secret);
    expect(redact(text)).toContain("[redacted]");
  });

  it("leaves ordinary text as it is", () => {
    const text = "cannot fetch https://host/v2/app/blobs/sha256:0123 (404)";
    expect(redact(text)).toBe(text);
  });
});

describe("single flight", () => {
  it("runs once for many, remembers no failure, and is not ended by one who leaves", async () => {
    const flights = new SingleFlight<string, number>();
    let runs = 0;
    let finish: (value: number) => void = () => {};
    const work = () => {
      runs++;
      return new Promise<number>((resolve) => {
        finish = resolve;
      });
    };
    const leaving = new AbortController();
    const left = flights.run("key", work, leaving.signal);
    const stayed = flights.run("key", work);
    leaving.abort(new Error("left"));
    await expect(left).rejects.toThrow("left");
    finish(7);
    expect(await stayed).toBe(7);
    expect(runs).toBe(1);
    await expect(flights.run("key", () => Promise.reject(new Error("bad")))).rejects.toThrow("bad");
    expect(await flights.run("key", async () => 8)).toBe(8);
    expect(flights.inFlight).toBe(0);
  });

  it("aborts the work when the last one has left", async () => {
    const flights = new SingleFlight<string, number>();
    const leaving = new AbortController();
    let aborted = false;
    const run = flights.run(
      "key",
      (signal) =>
        new Promise((_, reject) => {
          signal.addEventListener("abort", () => {
            aborted = true;
            reject(signal.reason);
          });
        }),
      leaving.signal,
    );
    await Promise.resolve();
    leaving.abort(new Error("left"));
    await expect(run).rejects.toThrow("left");
    expect(aborted).toBe(true);
  });
});

describe("a semaphore", () => {
  it("lets in as many as it has permits, in order, and forgets who gave up", async () => {
    const semaphore = new Semaphore(1);
    const order: string[] = [];
    let open: () => void = () => {};
    const first = semaphore.run(
      () =>
        new Promise<void>((resolve) => {
          open = resolve;
        }),
    );
    const givingUp = new AbortController();
    const gaveUp = semaphore.run(async () => void order.push("gave up"), givingUp.signal);
    const second = semaphore.run(async () => void order.push("second"));
    givingUp.abort(new Error("gave up"));
    await expect(gaveUp).rejects.toThrow("gave up");
    open();
    await Promise.all([first, second]);
    expect(order).toEqual(["second"]);
  });
});

describe("an undo stack", () => {
  it("undoes in reverse, goes on behind a failure, and keeps the first error", async () => {
    const done: number[] = [];
    const undo = new UndoStack();
    const work = undo.guard(async () => {
      undo.defer(() => done.push(1));
      undo.defer(() => {
        throw new Error("undoing failed");
      });
      undo.defer(() => done.push(2));
      throw new Error("the work failed");
    });
    await expect(work).rejects.toThrow("the work failed");
    expect(done).toEqual([2, 1]);
    await undo.unwind();
    expect(done).toEqual([2, 1]);
  });
});

describe("settings", () => {
  it("come from options, then the environment, then defaults", () => {
    expect(resolveSettings({}, {}).cacheDir).toBe("/var/lib/skim");
    expect(resolveSettings({}, { SKIM_CACHE_DIR: "/a" }).cacheDir).toBe("/a");
    expect(resolveSettings({ cacheDir: "/b" }, { SKIM_CACHE_DIR: "/a" }).cacheDir).toBe("/b");
    expect(resolveSettings({}, { SKIM_INSECURE_REGISTRIES: "a:1,b" }).insecureRegistries).toEqual([
      "a:1",
      "b",
    ]);
  });

  it("that cannot be are refused by name", () => {
    expect(() => resolveSettings({}, { SKIM_SPAN_BYTES: "12" })).toThrow(/spanBytes \(SKIM_SPAN_BYTES\)/);
    expect(() => resolveSettings({}, { SKIM_READ_DEADLINE_MS: "soon" })).toThrow(/SKIM_READ_DEADLINE_MS/);
  });
});

describe("an error", () => {
  it("is described with its causes, each once", () => {
    const cause = Object.assign(new Error("ENOENT: no such file, open '/x'"), { code: "ENOENT" });
    const error = new SkimError("LOCAL_IO", "cannot read /x", { cause });
    expect(describeError(error)).toBe("cannot read /x: ENOENT: no such file, open '/x'");
    expect(describeError(new SkimError("INTERNAL", "a: b", { cause: new Error("b") }))).toBe("a: b");
  });
});
