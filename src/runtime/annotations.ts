/**
 * What of an image config goes into the annotations of config.json: labels, and what has no place of its own there (image-spec, conversion.md).
 *
 * Runtimes take some annotations for orders of whoever runs the container. Labels are the image's, so those stay out: they could send crun to a socket
 * of the host, put a container into another one's gVisor sandbox, or let it keep root's groups. Docker hands no label to its runtime at all.
 */
import type { ImageConfig } from "../image/config.js";

/** A key that is one of these, or begins with one that ends in a period, is an order. */
const orders = [
  // crun(1), "Annotations"; wasm handlers and krun of its later releases.
  "run.oci.",
  "module.wasm.",
  "krun.",
  // gVisor, runsc/specutils: flags, mount hints, which sandbox a container is of.
  "dev.gvisor.",
  "io.kubernetes.cri.",
  "io.kubernetes.cri-o.",
  // runc: configuration of CRIU, properties of a systemd unit, and where its own `exec` and hooks look for config.json.
  "org.criu.",
  "org.systemd.property.",
  "bundle",
] as const;

function isOrder(key: string): boolean {
  return orders.some((order) => (order.endsWith(".") ? key.startsWith(order) : key === order));
}

/** A label of the same name goes first. Without the empty key, which the runtime spec forbids (config.md, "Annotations"). */
export function annotationsOf({ labels, stopSignal, exposedPorts }: ImageConfig): Record<string, string> {
  return {
    ...(stopSignal ? { "org.opencontainers.image.stopSignal": stopSignal } : {}),
    ...(exposedPorts.length > 0 ? { "org.opencontainers.image.exposedPorts": exposedPorts.join(",") } : {}),
    ...Object.fromEntries(Object.entries(labels).filter(([key]) => key !== "" && !isOrder(key))),
  };
}
