import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { SkimError } from "../../src/base/errors.js";
import type { Logger } from "../../src/base/logger.js";
import { ErrnoError } from "../../src/filesystem/errno-error.js";
import { FailureLog } from "../../src/fuse/failure-log.js";

beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => void vi.useRealTimers());

describe("failed operations", () => {
  it("are logged once in five seconds, and the next line counts those between", () => {
    const lines: object[] = [];
    const log = new FailureLog({ warn: (line: object) => lines.push(line) } as unknown as Logger);
    const gone = new SkimError("REGISTRY_UNAVAILABLE", "the registry is gone");
    for (let i = 0; i < 1000; i++) log.report("read", gone, { path: `/${i}` });
    expect(lines).toEqual([{ operation: "read", path: "/0", error: "the registry is gone", suppressed: 0 }]);
    vi.advanceTimersByTime(5_001);
    log.report("read", gone, { path: "/again" });
    expect(lines[1]).toMatchObject({ path: "/again", suppressed: 999 });
  });

  it("are not logged where the filesystem has answered what cannot be", () => {
    const lines: object[] = [];
    const log = new FailureLog({ warn: (line: object) => lines.push(line) } as unknown as Logger);
    for (const name of ["ENOENT", "ENOTDIR", "EINVAL", "EISDIR"] as const)
      log.report("getattr", new ErrnoError(name, "..."), {});
    log.report("read", new SkimError("CANCELLED", "..."), {});
    expect(lines).toEqual([]);
    log.report("read", new SkimError("NOT_FOUND", "the registry has no such blob any more"), {});
    expect(lines).toHaveLength(1);
  });
});
