import type { Network } from "./network.js";
import { type NetworkProfile, unshaped } from "./profiles.js";

const durationMs = 2_000;
const connections = 8;
const requestBytes = 512 * 1024;

interface Manifest {
  readonly layers: readonly { readonly digest: string; readonly size: number }[];
}

/**
 * Fetches from the image at `http://HOST/v2/NAME/manifests/TAG` for two seconds. V8 compiles what runs often, in the registry and the network as well, and the start that is
 * measured first would share its processors with that.
 */
export async function warmUpNetwork(
  network: Network,
  profile: NetworkProfile,
  [name, tag]: readonly [string, string],
): Promise<void> {
  const base = `http://${network.host}/v2/${name}`;
  const { layers } = (await (await fetch(`${base}/manifests/${tag}`)).json()) as Manifest;
  const { digest, size } = layers.reduce((a, b) => (b.size > a.size ? b : a));
  await network.reset(profile);
  const endsAt = performance.now() + durationMs;
  let requests = 0;
  const fetchOn = async () => {
    while (performance.now() < endsAt) {
      const start = (requests++ * requestBytes) % Math.max(1, size - requestBytes);
      const headers = { range: `bytes=${start}-${start + requestBytes - 1}` };
      await (await fetch(`${base}/blobs/${digest}`, { headers })).arrayBuffer();
    }
  };
  await Promise.all(Array.from({ length: connections }, fetchOn));
  await network.reset(unshaped);
}
