import { execFile } from "node:child_process";
import { chmod, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { execHeadBytes, readScriptLine } from "../../src/program/script-line.js";
import { makeTempDir } from "../support/temp-dir.js";

const lineOf = (text: string) => readScriptLine(Buffer.from(text, "latin1").subarray(0, execHeadBytes));

describe("the first line of a script", () => {
  it.each<[string, string, string, string | undefined]>([
    ["an interpreter", "#!/bin/sh\necho\n", "/bin/sh", undefined],
    ["one argument, spaces and all", "#!/usr/bin/env -S python3  -u \n", "/usr/bin/env", "-S python3  -u"],
    ["spaces and tabs around", "#! \t/bin/sh\t -e\t \n", "/bin/sh", "-e"],
    ["no newline at all", "#!/bin/true", "/bin/true", undefined],
    ["a NUL behind the name", "#!/bin/sh\0 -x\n", "/bin/sh", undefined],
    ["a carriage return", "#!/bin/sh\r\n", "/bin/sh\r", undefined],
    ["an argument that is cut at 255 bytes", `#!/bin/sh ${"x".repeat(300)}\n`, "/bin/sh", "x".repeat(245)],
  ])("with %s", (_, text, interpreter, argument) => {
    expect(lineOf(text)).toEqual({ interpreter, argument, carriageReturn: text.includes("\r") });
  });

  it("that is none: another file", () => {
    for (const text of ["", "#", "# !/bin/sh\n", "\x7fELF", " #!/bin/sh\n"])
      expect(lineOf(text)).toBeUndefined();
  });

  it("that the kernel refuses: no name, or one that may be cut", () => {
    for (const text of ["#!\n", "#! \t \n", `#!/${"x".repeat(300)}\n`, `#!${" ".repeat(300)}`])
      expect(lineOf(text), text).toBe("refused");
  });

  it("is what this machine's kernel makes of it", async () => {
    const dir = await makeTempDir("script-line");
    const lines = [
      "#!/bin/echo\n",
      "#! /bin/echo one two \t\n",
      "#!\t/bin/echo\t-S a\tb\n",
      `#!/bin/echo ${"y".repeat(300)}\n`,
      "#!/bin/echo\0 hidden\n",
      "#!/bin/echo seen\0 hidden\n",
      "#!/bin/echo without newline",
      "#!/bin/echo carriage\r\n",
    ];
    for (const [i, text] of lines.entries()) {
      const script = path.join(dir, `script-${i}`);
      await writeFile(script, text, "latin1");
      await chmod(script, 0o755);
      const line = lineOf(text);
      if (!line || line === "refused") throw new Error(`${JSON.stringify(text)} is a script`);
      const { stdout } = await promisify(execFile)(script);
      expect(stdout, text).toBe(
        `${[line.argument, script].filter((word) => word !== undefined).join(" ")}\n`,
      );
    }
  });
});
