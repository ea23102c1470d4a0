import path from "node:path";
import { SkimError } from "../base/errors.js";

/** A mount of the OCI runtime spec. */
export interface ContainerMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

const sourceKeys = ["source", "src"] as const;
const targetKeys = ["target", "destination", "dst"] as const;
const readOnlyKeys = ["readonly", "ro"] as const;
/** As docker reads them; the name alone is true. */
const switchValues = new Map([
  ...["", "true", "1"].map((text) => [text, true] as const),
  ...["false", "0"].map((text) => [text, false] as const),
]);

/** Reads `--mount type=bind,source=DIR,target=DIR[,readonly]`, as docker writes it. Throws USAGE. */
export function parseMount(text: string): ContainerMount {
  const pairs = text.split(",").map((field) => splitOnce(field, "="));
  const fields = new Map(pairs);
  const known = new Set(["type", ...sourceKeys, ...targetKeys, ...readOnlyKeys, "tmpfs-mode", "tmpfs-size"]);
  const unknown = [...fields.keys()].find((key) => !known.has(key));
  const refuse = (why: string) =>
    new SkimError(
      "USAGE",
      `--mount ${JSON.stringify(text)}: ${why}; e.g. type=bind,source=/data,target=/data,readonly`,
    );
  if (unknown !== undefined) throw refuse(`${JSON.stringify(unknown)} is not known`);
  const type = fields.get("type") ?? "bind";
  if (
    fields.size < pairs.length ||
    given(fields, targetKeys) > 1 ||
    given(fields, sourceKeys) > 1 ||
    given(fields, readOnlyKeys) > 1
  )
    throw refuse("something is given twice");
  const target = fields.get("target") ?? fields.get("destination") ?? fields.get("dst");
  const source = fields.get("source") ?? fields.get("src");
  if (!target?.startsWith("/")) throw refuse("target must be an absolute path");
  const wanted = fields.get("readonly") ?? fields.get("ro") ?? "false";
  const isReadOnly = switchValues.get(wanted);
  if (isReadOnly === undefined) throw refuse(`readonly is true or false, not ${JSON.stringify(wanted)}`);
  const readOnly = isReadOnly ? ["ro"] : ["rw"];
  if (type === "bind") {
    if (!source) throw refuse("a bind mount has a source");
    return {
      destination: path.normalize(target),
      type: "bind",
      source: path.resolve(source),
      options: ["rbind", "rprivate", ...readOnly],
    };
  }
  if (type !== "tmpfs") throw refuse("type is bind or tmpfs");
  if (source) throw refuse("a tmpfs has no source");
  const mode = fields.get("tmpfs-mode") ?? "1777";
  if (!/^[0-7]{3,4}$/.test(mode)) throw refuse(`${JSON.stringify(mode)} is not an octal mode`);
  const bytes = fields.get("tmpfs-size");
  const options = ["nosuid", "nodev", `mode=${mode}`, ...(bytes ? [`size=${bytes}`] : []), ...readOnly];
  return { destination: path.normalize(target), type: "tmpfs", source: "tmpfs", options };
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function given(fields: ReadonlyMap<string, string>, keys: readonly string[]): number {
  return keys.filter((key) => fields.has(key)).length;
}
