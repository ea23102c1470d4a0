import { expect, test } from "vitest";
import { parseRunscFlags, readRunscFeatures, runscOverlayFlag } from "../../src/runtime/runsc-features.js";

/** As `runsc flags` prints them, in their three generations. */
const flags = {
  overlay:
    '  -overlay\n    \twrap filesystem mounts with writable overlay.\n  -platform string\n    \tspecifies which platform to use: ptrace (default), kvm. (default "ptrace")\n',
  directory:
    "  -overlay\n    \tDEPRECATED: use --overlay2=all:memory to achieve the same effect\n  -overlay2 value\n    \twrap mounts with overlayfs. Format is {mount}:{medium}, where 'mount' can be 'root' or 'all' and medium can be 'memory' or existing directory path in which filestore will be created. 'none' will turn overlay mode off.\n  -platform string\n    \tspecifies which platform to use: ptrace (default), kvm.\n",
  self: "  -overlay2 value\n    \twrap mounts with overlayfs. Format is {mount}:{medium}[,size={size}], where 'mount' can be 'root' or 'all' and medium can be 'memory', 'self' or 'dir=/abs/dir/path'. 'none' will turn overlay mode off. (default root:self)\n  -platform string\n    \tspecifies which platform to use: systrap (default), ptrace, kvm.\n",
};

test.each([
  ["overlay", flags.overlay, "--overlay=true", "--overlay=false", ["ptrace", "kvm"]],
  ["overlay2-directory", flags.directory, "--overlay2=root:/w", "--overlay2=none", ["ptrace", "kvm"]],
  ["overlay2-self", flags.self, "--overlay2=root:dir=/w", "--overlay2=none", ["ptrace", "kvm", "systrap"]],
] as const)(
  "a runsc of the generation %s is told of its overlay in its own words",
  (overlay, text, own, none, platforms) => {
    const features = parseRunscFlags(text);
    expect(features).toEqual({ overlay, platforms });
    expect(runscOverlayFlag(features, { kind: "own", directory: "/w" })).toBe(own);
    expect(runscOverlayFlag(features, { kind: "none" })).toBe(none);
  },
);

test("the installed runsc is of one of them", async () => {
  expect((await readRunscFeatures()).platforms).toContain("ptrace");
});
