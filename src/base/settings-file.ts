import { readFileSync } from "node:fs";
import path from "node:path";
import { SkimError, systemErrorCode } from "./errors.js";
import { settingsFileVariable, unknownKey } from "./setting-names.js";
import { settingNames } from "./settings-table.js";

/**
 * The settings file: one JSON object whose keys are the settings of settings-table.ts, and lines that begin with two slashes, which are comments. An empty
 * file is one without settings.
 */

/** Where it is when nobody says where; it need not be there. */
export const defaultSettingsFile = "/etc/skim/config.json";

export interface SettingsFile {
  readonly file: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/**
 * Reads the settings file that `given` (a flag) names, else the environment, else the default one. Undefined where there is none, which is an
 * error for one that was named. Throws NOT_FOUND, LOCAL_IO, and USAGE for what is no JSON object or has a key that is no setting.
 */
export function readSettingsFile(
  given: string | undefined,
  environment: NodeJS.ProcessEnv,
): SettingsFile | undefined {
  const named = given ?? (environment[settingsFileVariable] || undefined);
  const file = path.resolve(named ?? defaultSettingsFile);
  const text = readText(file, named !== undefined);
  if (text === undefined) return undefined;
  const json = withoutComments(text);
  const values = json.trim() === "" ? {} : parseObject(file, json);
  const unknown = Object.keys(values).find((key) => !(settingNames as string[]).includes(key));
  if (unknown !== undefined) throw new SkimError("USAGE", `settings file ${file}: ${unknownKey(unknown)}`);
  return { file, values };
}

function readText(file: string, mustBeThere: boolean): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const code = systemErrorCode(cause);
    const missing = code === "ENOENT" || code === "ENOTDIR";
    if (missing && !mustBeThere) return undefined;
    if (missing) {
      throw new SkimError(
        "NOT_FOUND",
        `settings file ${file}: not there; it was named by --config or ${settingsFileVariable}`,
        {
          cause,
        },
      );
    }
    throw new SkimError("LOCAL_IO", `settings file ${file} cannot be read: ${code}`, { cause });
  }
}

/** Lines stay where they are, for messages. No text in JSON goes over the end of a line, so none is taken for a comment. */
function withoutComments(text: string): string {
  return text.replace(/^[ \t]*\/\/.*$/gm, "");
}

function parseObject(file: string, text: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    // The parser's message repeats what it stumbled over, in one line or several.
    const found = (cause as Error).message.replace(/\s+/g, " ");
    throw new SkimError("USAGE", `settings file ${file} is not JSON: ${found}`);
  }
  if (typeof json === "object" && json !== null && !Array.isArray(json))
    return json as Record<string, unknown>;
  throw new SkimError("USAGE", `settings file ${file} is not a JSON object, as {"cacheDir": "/data/skim"}`);
}
