import type { Command } from "commander";
import { SkimError } from "../base/errors.js";
import { parseReference } from "../image/reference.js";
import { type CommonOptions, createContext, wholeNumber, withCommonOptions } from "./command-context.js";

interface ServeOptions extends CommonOptions {
  host: string;
  port: number;
}

export function addRegistryCommand(program: Command): void {
  const registry = program.command("registry").description("the embedded registry");
  const serve = registry
    .command("serve")
    .description("serve an OCI layout directory as a read-only registry, for demos and tests")
    .argument("<oci:DIR>")
    .option("--host <address>", "address to listen on", "127.0.0.1")
    .option("--port <port>", "0: one that is free", wholeNumber, 0);
  withCommonOptions(serve);
  serve.action(async (layout: string, options: ServeOptions) => {
    const { startEmbeddedRegistry } = await import("../registry/embedded-registry.js");
    const context = createContext(options);
    const reference = layout.startsWith("oci:") ? parseReference(layout) : undefined;
    if (reference?.kind !== "layout") {
      throw new SkimError("USAGE", `${layout} is not an OCI layout directory in the form oci:DIR`);
    }
    const server = await startEmbeddedRegistry({
      layout: reference.directory,
      host: options.host,
      port: options.port,
      logger: context.logger,
    });
    context.print(
      { host: server.host, url: server.url },
      () => `serving ${reference.directory} at ${server.host}; Ctrl-C ends`,
    );
    await new Promise<void>((resolve) =>
      context.signal.addEventListener("abort", () => resolve(), { once: true }),
    );
    await server.close();
  });
}
