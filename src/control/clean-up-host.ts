/** `skim gc`: what has been left on this host, through its daemon, or without one. */
import { readdir } from "node:fs/promises";
import path from "node:path";
import type { Settings } from "../base/settings.js";
import { holderLives } from "../holder/open-keeper.js";
import { loadNative } from "../native/load.js";
import type { LeftoversAnswer } from "./api-schemas.js";
import { DaemonClient } from "./daemon-client.js";
import { cleanUp } from "./leftovers.js";

export async function cleanUpHost(
  settings: Settings,
  how: { readonly remove: boolean; readonly all: boolean },
): Promise<LeftoversAnswer> {
  const found = await DaemonClient.find(settings.runDir);
  if (found) return await found.client.leftovers(how);
  return await cleanUp({ settings, native: loadNative(), held: await heldImages(settings.runDir) }, how);
}

/** All images, where a holder lives that keeps them for the next daemon. */
async function heldImages(runDir: string): Promise<ReadonlySet<string>> {
  if (!holderLives(runDir)) return new Set();
  return new Set(await readdir(path.join(runDir, "images")).catch(() => []));
}
