import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { cliFile } from "../support/skim-cli.js";
import { makeTempDir } from "../support/temp-dir.js";

const exec = promisify(execFile);
const unit = readFileSync(path.resolve(import.meta.dirname, "../../scripts/host/skim.service"), "utf8");

/** By section and key; what is a comment is none. */
function settingsOf(text: string): Map<string, string> {
  const found = new Map<string, string>();
  let section = "";
  for (const line of text.split("\n")) {
    const heading = /^\[(\w+)\]$/.exec(line);
    const setting = /^(\w+)=(.*)$/.exec(line);
    if (heading) section = heading[1]!;
    else if (setting) {
      expect(found.has(`${section}.${setting[1]}`), line).toBe(false);
      found.set(`${section}.${setting[1]}`, setting[2]!);
    } else expect(line, "a setting, a comment or nothing").toMatch(/^(#.*)?$/);
  }
  return found;
}

/** Undefined where there is no systemd to ask. */
async function systemdVersion(): Promise<number | undefined> {
  const { stdout } = await exec("systemd-analyze", ["--version"]).catch(() => ({ stdout: "" }));
  const version = /^systemd (\d+)/.exec(stdout)?.[1];
  return version === undefined ? undefined : Number(version);
}

const version = await systemdVersion();

describe("the systemd unit", () => {
  it("restarts the server at once and for ever, and leaves the holder alone", () => {
    const settings = settingsOf(unit);
    expect(Object.fromEntries(settings)).toMatchObject({
      "Unit.StartLimitIntervalSec": "0",
      "Service.Type": "notify",
      "Service.Restart": "always",
      "Service.RestartSec": "0",
      "Service.KillMode": "process",
      "Service.FileDescriptorStorePreserve": "yes",
      "Service.Delegate": "yes",
    });
    expect(Number(settings.get("Service.FileDescriptorStoreMax"))).toBeGreaterThan(0);
    expect(Number(settings.get("Service.OOMScoreAdjust"))).toBeLessThan(0);
  });

  it("asks for nothing that would hide its mounts, take its records away, or bind what it starts", () => {
    const hiding =
      /^Service\.(PrivateMounts|MountFlags|Private(Tmp|Devices|Users)|Protect\w+|(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec)Paths|Bind(ReadOnly)?Paths|TemporaryFileSystem|Root(Directory|Image)|DynamicUser|RuntimeDirectory|MountAPIVFS|SystemCall\w+|Restrict\w+|LockPersonality|NoNewPrivileges)$/;
    expect([...settingsOf(unit).keys()].filter((key) => hiding.test(key))).toEqual([]);
  });

  it.skipIf(version === undefined)("is understood by systemd", async () => {
    const file = path.join(await makeTempDir("systemd"), "skim.service");
    // The program is where the tests have it.
    writeFileSync(file, unit.replace(/^ExecStart=\S+/m, `ExecStart=${cliFile}`));
    const { stderr } = await exec("systemd-analyze", ["verify", "--man=no", file]).catch(
      (error: { stderr: string }) => ({ stderr: error.stderr }),
    );
    const complaints = stderr.split("\n").filter((line) => line.includes("skim.service"));
    const known = (line: string) => version! < 254 && /FileDescriptorStorePreserve/.test(line);
    expect(complaints.filter((line) => !known(line))).toEqual([]);
    // It does look: a word that nobody knows is complained about.
    writeFileSync(file, unit.replace("KillMode=process", "KillMode=nobody"));
    const wrong = await exec("systemd-analyze", ["verify", "--man=no", file]).catch(
      (error: { stderr: string }) => ({ stderr: error.stderr }),
    );
    expect(wrong.stderr).toMatch(/KillMode|kill mode/i);
  });
});
