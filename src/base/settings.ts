import path from "node:path";
import type { z } from "zod";
import { SkimError } from "./errors.js";
import { refuseMistypedVariables } from "./setting-names.js";
import { readSettingsFile, type SettingsFile } from "./settings-file.js";
import { type SettingName, settingNames, settingsTable } from "./settings-table.js";

/**
 * Settings and where they come from: flag or option of the call, environment, settings file, default; the first that has one wins, whole: lists are not
 * joined. What there is to set is in settings-table.ts.
 */
export type Settings = { [Name in SettingName]: z.output<(typeof settingsTable)[Name]["schema"]> };
export type SettingsInput = Partial<Settings>;

export const settingEnvironment = Object.fromEntries(
  settingNames.map((name) => [name, settingsTable[name].environment]),
) as Readonly<Record<SettingName, string>>;

/**
 * Joins options, environment, settings file and defaults. `settingsFile`: see readSettingsFile, which is not asked where `options` have everything.
 * Throws USAGE naming the setting that does not fit and where it is, and as readSettingsFile and refuseMistypedVariables do.
 */
export function resolveSettings(
  options: SettingsInput = {},
  environment: NodeJS.ProcessEnv = process.env,
  settingsFile?: string,
): Settings {
  const complete = settingNames.every((name) => options[name] !== undefined);
  if (!complete) refuseMistypedVariables(environment);
  const file = complete ? undefined : readSettingsFile(settingsFile, environment);
  const resolved = Object.fromEntries(
    settingNames.map((name) => [name, resolveSetting(name, options, environment, file)]),
  ) as Settings;
  return { ...resolved, cacheDir: path.resolve(resolved.cacheDir), runDir: path.resolve(resolved.runDir) };
}

function resolveSetting(
  name: SettingName,
  options: SettingsInput,
  environment: NodeJS.ProcessEnv,
  file: SettingsFile | undefined,
): unknown {
  const { schema, environment: variable } = settingsTable[name];
  const ofFile = file && Object.hasOwn(file.values, name) ? file.values[name] : undefined;
  const value = [options[name], environment[variable], ofFile].find(
    (each) => each !== undefined && each !== "",
  );
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const where = file && value === ofFile ? `in ${file.file}` : variable;
  const { message, path: within } = parsed.error.issues[0]!;
  const place = within.length > 0 ? `${within.map(String).join(", ")}: ` : "";
  throw new SkimError("USAGE", `setting ${name} (${where}) cannot be used: ${place}${message}`);
}

export interface SettingDescription {
  readonly name: SettingName;
  readonly environment: string;
  readonly flag: string | undefined;
  readonly byDefault: unknown;
  readonly meaning: string;
}

/** The table of settings as documentation shows it. */
export function describeSettings(): SettingDescription[] {
  return settingNames.map((name) => {
    const { environment, meaning, schema, ...rest } = settingsTable[name];
    const flag = "flag" in rest ? rest.flag : undefined;
    return { name, environment, flag, byDefault: schema.parse(undefined), meaning };
  });
}
