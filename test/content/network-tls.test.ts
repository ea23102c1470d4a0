import { afterEach, expect, test, vi } from "vitest";
import { makeCertificate } from "../support/certificates.js";
import { faults } from "../support/network-faults.js";
import { type NetworkTrial, startNetworkTrial } from "./network-trial.js";

/** Certificates that go bad under a mount, and what TLS must not be led to. */

let trial: NetworkTrial | undefined;

afterEach(async () => {
  vi.unstubAllEnvs();
  await trial?.close();
  trial = undefined;
});

/** In place of NODE_EXTRA_CA_CERTS, which node reads once, when it starts. */
function trustEverything(): void {
  vi.stubEnv("NODE_TLS_REJECT_UNAUTHORIZED", "0");
}

test.each([
  ["that has expired", true],
  ["of somebody unknown", false],
])("a certificate %s fails reads at once, and a good one serves them", async (_, expired) => {
  const certificate = await makeCertificate({ expired });
  trial = await startNetworkTrial({ readDeadlineMs: 10_000 });
  expect(await trial.read(0, 100)).toBe("right");
  await trial.registry.close();
  await trial.registry.listen({ certificate });
  expect(await trial.read(0, 100)).toBe("REGISTRY_UNAVAILABLE");
  trustEverything();
  expect(await trial.readAll()).toBe("right");
});

test("a mirror whose certificate is bad is left for the origin, and not told anything", async () => {
  const certificate = await makeCertificate({ expired: true });
  const other = await startNetworkTrial({ readDeadlineMs: 10_000 });
  try {
    await other.registry.close();
    await other.registry.listen({ certificate });
    trial = await startNetworkTrial({
      readDeadlineMs: 10_000,
      settings: (registry) => ({ mirrors: { [registry.host]: [other.registry.url] } }),
    });
    expect(await trial.readAll()).toBe("right");
    expect(other.registry.seen).toEqual([]);
  } finally {
    await other.close();
  }
});

test("a redirect from https to plain http beyond loopback is not followed, whatever is there", async () => {
  trustEverything();
  trial = await startNetworkTrial({ readDeadlineMs: 10_000 });
  await trial.registry.close();
  await trial.registry.listen({ certificate: await makeCertificate() });
  expect(await trial.read(0, 100)).toBe("right");
  trial.registry.script.add({
    on: "blob",
    fault: faults.redirect("http://storage.invalid/x?X-Amz-Signature=secret-signature"),
    times: Number.POSITIVE_INFINITY,
  });
  expect(await trial.read(0, 100)).toBe("REGISTRY_PROTOCOL");
  trial.registry.script.clear();
  expect(await trial.readAll()).toBe("right");
});
