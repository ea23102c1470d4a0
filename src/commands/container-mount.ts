import path from "node:path";
import { SkimError } from "../base/errors.js";

/** A mount of the OCI runtime spec. */
export interface ContainerMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** Reads `--mount type=bind,source=DIR,target=DIR[,readonly]`, as docker writes it. Throws USAGE. */
export function parseMount(text: string): ContainerMount {
  const fields = new Map(text.split(",").map((field) => splitOnce(field, "=")));
  const known = new Set([
    "type",
    "source",
    "src",
    "target",
    "destination",
    "dst",
    "readonly",
    "ro",
    "tmpfs-mode",
    "tmpfs-size",
  ]);
  const unknown = [...fields.keys()].find((key) => !known.has(key));
  const refuse = (why: string) =>
    new SkimError(
      "USAGE",
      `--mount ${JSON.stringify(text)}: ${why}; e.g. type=bind,source=/data,target=/data,readonly`,
    );
  if (unknown !== undefined) throw refuse(`${JSON.stringify(unknown)} is not known`);
  const type = fields.get("type") ?? "bind";
  const target = fields.get("target") ?? fields.get("destination") ?? fields.get("dst");
  const source = fields.get("source") ?? fields.get("src");
  if (!target?.startsWith("/")) throw refuse("target must be an absolute path");
  const readOnly = ["readonly", "ro"].some((key) => fields.has(key) && fields.get(key) !== "false")
    ? ["ro"]
    : ["rw"];
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
  const mode = fields.get("tmpfs-mode") ?? "1777";
  const bytes = fields.get("tmpfs-size");
  const options = ["nosuid", "nodev", `mode=${mode}`, ...(bytes ? [`size=${bytes}`] : []), ...readOnly];
  return { destination: path.normalize(target), type: "tmpfs", source: "tmpfs", options };
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
