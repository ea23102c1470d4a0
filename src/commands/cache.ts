import type { Command } from "commander";
import { addWarmCommand } from "./cache-warm.js";

export function addCacheCommand(program: Command): void {
  const cache = program.command("cache").description("what is kept on this host of images");
  addWarmCommand(cache);
}
