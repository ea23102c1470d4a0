import { once } from "node:events";
import type { Command } from "commander";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryHostOptions,
} from "./command-context.js";

/** One span of the default size: what a fetch brings anyway. */
const pieceBytes = 1024 * 1024;

export function addCatCommand(program: Command): void {
  const command = program
    .command("cat")
    .description("print a file of an image: only its bytes are fetched")
    .argument("<ARCHIVE|IMAGE>")
    .argument("<PATH>")
    .option(
      "--source <IMAGE>",
      "fetch layers from this image's registry instead of the one that was indexed",
    );
  withCommonOptions(withRegistryHostOptions(command), { json: false });
  command.action(async (name: string, path: string, options: CommonOptions & { source?: string }) => {
    const { withArchiveNamed, resolveTyped } = await import("./open-named.js");
    const { openImageContent } = await import("../mount/image-content.js");
    const { ImageFilesystem } = await import("../filesystem/image-filesystem.js");
    const context = createContext(options);
    await withArchiveNamed(name, context, async ({ archive, source }) => {
      const opened = await openImageContent({
        archive,
        source: options.source ?? source,
        settings: context.settings,
        logger: context.logger,
      });
      try {
        const filesystem = new ImageFilesystem({ archive, content: opened.content });
        const ino = resolveTyped(filesystem, path);
        const piece = new Uint8Array(pieceBytes);
        for (let offset = 0; ; ) {
          const bytes = await filesystem.read(ino, offset, piece, context.signal);
          if (bytes === 0) break;
          // Copied: a pipe that is full keeps what it was given while the next piece is read.
          if (!process.stdout.write(Buffer.from(piece.subarray(0, bytes))))
            await once(process.stdout, "drain");
          offset += bytes;
        }
      } finally {
        await opened.close();
      }
    });
  });
}
