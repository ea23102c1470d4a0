import { expect, test } from "vitest";
import { parseMount } from "../../src/commands/container-mount.js";

const bind = "type=bind,source=/s,target=/t";

test.each([
  [bind, "rw"],
  [`${bind},readonly`, "ro"],
  [`${bind},readonly=true`, "ro"],
  [`${bind},ro=1`, "ro"],
  [`${bind},readonly=0`, "rw"],
  [`${bind},ro=false`, "rw"],
])("--mount %s is mounted %s", (text, expected) => {
  expect(parseMount(text).options).toEqual(["rbind", "rprivate", expected]);
});

test.each([
  [`${bind},target=/u`, /twice/],
  [`${bind},dst=/u`, /twice/],
  [`${bind},src=/u`, /twice/],
  [`${bind},ro,readonly=false`, /twice/],
  [`${bind},readonly=maybe`, /"maybe"/],
  ["type=bind,target=/t", /source/],
  ["type=tmpfs,target=/t,source=/s", /no source/],
  ["type=tmpfs,target=t", /absolute/],
  ["type=tmpfs,target=/t,tmpfs-mode=999", /"999"/],
  ["type=volume,target=/t", /bind or tmpfs/],
  [`${bind},size=3`, /"size" is not known/],
])("--mount %s is refused", (text, message) => {
  expect(() => parseMount(text)).toThrow(
    expect.objectContaining({ code: "USAGE", message: expect.stringMatching(message) }),
  );
});
