// Writes what is made from tables in the code: the example settings. Run `npm run build:ts` first; tests compare the files with the code.
import { writeFileSync } from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "../..");
const { exampleSettingsFile } = await import(path.join(root, "dist/base/example-settings.js"));

writeFileSync(path.join(root, "scripts/host/config.json"), exampleSettingsFile());
