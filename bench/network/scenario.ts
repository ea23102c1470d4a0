/** The scenario `network`: what the networks of the other scenarios really are, measured from outside. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { UndoStack } from "../../src/base/undo-stack.js";
import type { Figure } from "../../src/bench/figure.js";
import type { Measured, Scenario } from "../support/scenario.js";
import { Network } from "./network.js";
import { type NetworkProfile, networkProfiles, unshaped } from "./profiles.js";

const pings = 20;
/** Sent for throughput: about a second's worth, but not more than this. */
const bytesMax = 1e9;
const piece = Buffer.alloc(256 * 1024);

const method = `Method: a client in this process speaks through the proxy with a server in this process: a byte and back for the round trip (on a connection that is open, and on a new
one, which costs one more), then as much as the network carries in about a second over four connections. Processor time is the proxy's.`;

export const networkScenario: Scenario = {
  figures: ["round-trip", "new-connection", "throughput"],
  programs: [],
  method,
  open: async ({ rounds }) => {
    const undo = new UndoStack();
    return await undo.guard(async () => {
      const server = createServer({ noDelay: true }, (socket) => void serve(socket));
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      undo.defer(() => server.close());
      const network = await Network.start(`127.0.0.1:${(server.address() as AddressInfo).port}`);
      undo.defer(() => network.close());
      const measures: Record<string, () => Promise<Measured>> = {
        "round-trip": () => measureRoundTrip(network, rounds),
        "new-connection": () => measureNewConnection(network, rounds),
        throughput: () => measureThroughput(network, rounds),
      };
      return { measure: (name) => measures[name]!(), close: () => undo.unwind() };
    });
  },
};

/** One byte is sent back; eight are the number of bytes that are wanted. */
async function serve(socket: Socket): Promise<void> {
  socket.on("error", () => socket.destroy());
  for await (const request of socket as AsyncIterable<Buffer>) {
    if (request.length === 1) socket.write(request);
    if (request.length !== 8) continue;
    for (let left = request.readDoubleLE(); left > 0 && !socket.destroyed; left -= piece.length)
      // Called back also where the other side has gone.
      await new Promise((resolve) => socket.write(piece.subarray(0, Math.min(left, piece.length)), resolve));
    socket.end();
  }
}

async function open(network: Network): Promise<Socket> {
  const [host, port] = network.host.split(":") as [string, string];
  const socket = connect({ host, port: Number(port), noDelay: true });
  await once(socket, "connect");
  return socket;
}

/** Milliseconds from the byte's start to its return. */
async function ping(socket: Socket): Promise<number> {
  const started = performance.now();
  const back = once(socket, "data");
  socket.write("x");
  await back;
  return performance.now() - started;
}

async function measureRoundTrip(network: Network, rounds: number): Promise<Measured> {
  const rows = [];
  for (const profile of [unshaped, ...networkProfiles]) {
    await network.reset(profile);
    const socket = await open(network);
    await ping(socket);
    const samples: number[] = [];
    for (let i = 0; i < rounds * pings; i++) samples.push(await ping(socket));
    socket.destroy();
    rows.push({ system: rowName(profile), unit: "ms", samples });
  }
  const title = "round trip of one byte on an open connection";
  return { figures: [{ name: "round-trip", title, rows, comparisons: [] }] };
}

async function measureNewConnection(network: Network, rounds: number): Promise<Measured> {
  const rows = [];
  for (const profile of [unshaped, ...networkProfiles]) {
    await network.reset(profile);
    const samples: number[] = [];
    for (let i = 0; i < rounds; i++) {
      const started = performance.now();
      const socket = await open(network);
      await ping(socket);
      samples.push(performance.now() - started);
      socket.destroy();
    }
    rows.push({ system: rowName(profile), unit: "ms", samples });
  }
  const title = "connecting, and the round trip of one byte";
  return { figures: [{ name: "new-connection", title, rows, comparisons: [] }] };
}

async function measureThroughput(network: Network, rounds: number): Promise<Measured> {
  const speeds = [];
  const cpu = [];
  for (const profile of [unshaped, ...networkProfiles]) {
    const bytes = Math.min(bytesMax, profile.bitsPerSecond / 8);
    const samples = { speed: [] as number[], cpu: [] as number[] };
    for (let round = 0; round < rounds; round++) {
      await network.reset(profile);
      const before = await network.report();
      const started = performance.now();
      await Promise.all(Array.from({ length: 4 }, () => receive(network, bytes / 4)));
      const milliseconds = performance.now() - started - profile.roundTripMs * 2;
      samples.speed.push((bytes * 8) / milliseconds / 1e6);
      samples.cpu.push((100 * ((await network.report()).cpuMs - before.cpuMs)) / milliseconds);
    }
    speeds.push({ system: rowName(profile), unit: "Gbit/s", samples: samples.speed });
    cpu.push({ system: rowName(profile), unit: "%", samples: samples.cpu });
  }
  const figures: Figure[] = [
    { name: "throughput", title: "four connections at once", rows: speeds, comparisons: [] },
    { name: "throughput-cpu", title: "the proxy's share of one core meanwhile", rows: cpu, comparisons: [] },
  ];
  return { figures };
}

async function receive(network: Network, bytes: number): Promise<void> {
  const socket = await open(network);
  const request = Buffer.alloc(8);
  request.writeDoubleLE(bytes);
  socket.write(request);
  let received = 0;
  socket.on("data", (more: Buffer) => {
    received += more.length;
  });
  await once(socket, "end");
  socket.destroy();
  if (received !== Math.ceil(bytes)) throw new Error(`${received} bytes came of ${bytes}`);
}

function rowName({ name, roundTripMs, bitsPerSecond }: NetworkProfile): string {
  return Number.isFinite(bitsPerSecond) ? `${name} (${roundTripMs} ms, ${bitsPerSecond / 1e9} Gbit/s)` : name;
}
