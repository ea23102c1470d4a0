/** What every figure of the scenario `engine` works with. */
import { UndoStack } from "../../src/base/undo-stack.js";
import type { FuseEngineName } from "../../src/fuse/engine-names.js";
import type { BenchImage, BenchImages } from "./images.js";
import { BenchServer } from "./server.js";

export interface Bench {
  readonly images: BenchImages;
  readonly workDir: string;
  readonly rounds: number;
  readonly signal: AbortSignal;
}

/** Starts a server for each engine, with `image` open, and ends them afterwards. */
export async function withServers<T>(
  image: BenchImage,
  engines: readonly FuseEngineName[],
  work: (servers: BenchServer[]) => Promise<T>,
): Promise<T> {
  const undo = new UndoStack();
  const result = await undo.guard(async () => {
    const servers: BenchServer[] = [];
    for (const engine of engines) {
      const server = new BenchServer(engine);
      undo.defer(() => server.end());
      await server.ask("open", image);
      servers.push(server);
    }
    return await work(servers);
  });
  await undo.unwind();
  return result;
}
