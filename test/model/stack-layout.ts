import { rm } from "node:fs/promises";
import path from "node:path";
import { writeTestImage } from "../support/oci-layout.js";
import { builtLayer } from "./layer-tars.js";
import type { RandomStack } from "./random-layers.js";

/** What `use` gives, called with a stack as an image (a name as the command line takes it) and a directory for all that is made of it. */
export async function withLayout<Result>(
  stack: RandomStack,
  dir: string,
  use: (image: string, room: string) => Promise<Result>,
): Promise<Result> {
  const room = path.join(dir, `stack ${++rooms}`);
  const layout = path.join(room, "image");
  try {
    await writeTestImage(layout, stack.layers.map(builtLayer));
    return await use(`oci:${layout}:latest`, room);
  } finally {
    await rm(room, { recursive: true, force: true });
  }
}

let rooms = 0;
