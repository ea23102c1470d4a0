/** Whether the host's processor runs the image: by what its config says, and by what its programs are. */
import { type ByteString, displayText } from "../base/byte-string.js";
import { platformText } from "../image/platform.js";
import { isElf } from "../program/elf.js";
import type { StartedProgram } from "../program/start-programs.js";
import { type Check, type Finding, fail, ok, warn } from "./check.js";
import { architectureOf, runsOn } from "./examined-host.js";
import { problemsOf } from "./program-checks.js";
import type { Subject } from "./subject.js";

export const architectureChecks: readonly Check[] = [
  {
    id: "arch",
    asks: "is the image, by its config, for a processor that this host has",
    fix: "take the image for this host (--platform), or install an emulator",
    run: configArchitecture,
  },
  {
    id: "arch-program",
    asks: "are the programs that the start runs for this host's processor",
    fix: "take the image for this host (--platform), or install an emulator",
    run: programArchitecture,
  },
  {
    id: "arch-shell",
    asks: "is /bin/sh a program for this host's processor",
    fix: "take the image for this host (--platform), or install an emulator",
    run: shellArchitecture,
  },
];

async function configArchitecture(subject: Subject): Promise<Finding[]> {
  const { platform } = subject.config;
  const text = platformText(platform);
  const own = platformText(subject.host.platform);
  const advice = `take the image for this host (--platform ${own}), or build it for it`;
  if (platform.os !== "linux")
    return [fail(text, `an image for ${platform.os}, and this host runs linux`, advice)];
  const runs = runsOn(subject.host, platform.architecture);
  if (runs === "natively") return [ok(`the image is for ${text}, this host is ${own}`)];
  if (runs === "emulated")
    return [warn(text, `this host is ${own}: its programs run in an emulator, slowly`, advice)];
  if (platform.architecture === "unknown")
    return [
      warn(
        text,
        "the image's config does not say which processor it is for",
        "build it anew with a current tool",
      ),
    ];
  const programs = (await subject.started()).filter((step) => step.kind === "program");
  const isMislabelled =
    programs.length > 0 && programs.every(({ object }) => runsOn(subject.host, architectureOf(object)));
  if (isMislabelled)
    return [
      warn(
        text,
        `the config says so, but what it starts is for ${own}, which this host is`,
        "build the image with its own platform (--platform of the build)",
      ),
    ];
  return [
    fail(
      text,
      `the image is for ${text}, and this host is ${own} (the kernel will say "exec format error")`,
      advice,
    ),
  ];
}

async function programArchitecture(subject: Subject): Promise<Finding[]> {
  const problems = await problemsOf(subject, "arch-program");
  if (problems.length > 0) return problems;
  const programs = (await subject.started()).filter(
    (step): step is Extract<StartedProgram, { kind: "program" }> => step.kind === "program",
  );
  if (programs.length === 0) return [];
  const found = programs.map(({ path, object }) => `${displayText(path)} is for ${architectureOf(object)}`);
  return [ok([...new Set(found)].join(", "))];
}

async function shellArchitecture(subject: Subject): Promise<Finding[]> {
  const { file } = subject.programs.find("/bin/sh" as ByteString);
  if (!file) return [];
  const object = await subject.programs.elf(file);
  if (!isElf(object)) return [];
  const architecture = architectureOf(object);
  if (runsOn(subject.host, architecture)) return [ok(`for ${architecture}`, "/bin/sh")];
  const own = subject.host.platform.architecture;
  return [
    fail(
      "/bin/sh",
      `a program for ${architecture}, and this host is ${own} (the kernel will say "exec format error")`,
      `take the image for ${own} (--platform linux/${own})`,
    ),
  ];
}
