import type { ImageConfig } from "../image/config.js";
import type { StartCommand } from "../program/start-spans.js";
import { defaultPath } from "../runtime/docker-defaults.js";

/** A command of an image, as a container of it gets it; default: its own. */
export function startCommand(
  config: ImageConfig,
  args: readonly string[] = [...config.entrypoint, ...config.cmd],
): StartCommand {
  const hasPath = config.env.some((one) => one.startsWith("PATH="));
  return {
    args,
    env: hasPath ? config.env : [`PATH=${defaultPath}`, ...config.env],
    workingDir: config.workingDir,
  };
}
