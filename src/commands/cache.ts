/** `skim cache`: what is kept on disk, and what goes. One file a subcommand, registered here. */
import type { Command } from "commander";
import { addCacheGcCommand } from "./cache-gc.js";
import { addCacheLsCommand } from "./cache-ls.js";
import { addCachePinCommands } from "./cache-pin.js";
import { addCacheVerifyCommand } from "./cache-verify.js";
import { addWarmCommand } from "./cache-warm.js";

export function addCacheCommand(program: Command): void {
  const cache = program
    .command("cache")
    .description("what is kept on disk: list it, make room, check it, pin it, fill it");
  addCacheLsCommand(cache);
  addCacheGcCommand(cache);
  addCacheVerifyCommand(cache);
  addCachePinCommands(cache);
  addWarmCommand(cache);
}
