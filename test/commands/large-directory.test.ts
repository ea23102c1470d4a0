import path from "node:path";
import { expect, it } from "vitest";
import { writeTestImage } from "../support/oci-layout.js";
import { makeSkimHost } from "../support/skim-cli.js";
import { buildTar } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

/** More than a JavaScript call can have arguments: about 120,000 with node's default stack. */
const names = 150_000;

it(`a directory of ${names} names is indexed and listed`, async () => {
  const dir = await makeTempDir("large");
  const layout = path.join(dir, "image");
  const tar = buildTar(Array.from({ length: names }, (_, i) => ({ path: `d/${i}` })));
  await writeTestImage(layout, [{ tar }]);
  const host = await makeSkimHost();
  const archive = path.join(dir, "image.skim");
  expect(await host.json(["index", `oci:${layout}`, "-o", archive])).toMatchObject({ files: names + 2 });
  for (const [command, lines] of [
    [["ls", archive, "/d"], names],
    [["ls", "-l", archive, "/d"], names],
    [["tree", archive], names + 2],
  ] as const) {
    expect((await host.ok(command)).trim().split("\n").length).toBe(lines);
  }
});
