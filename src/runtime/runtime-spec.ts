import type { SpecResources } from "./resource-limits.js";

/** The parts of an OCI runtime config.json (runtime-spec 1.0.2, config.md and config-linux.md) that skim writes. */
export interface RuntimeSpec {
  readonly ociVersion: string;
  readonly process: {
    readonly terminal: boolean;
    readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids: readonly number[] };
    readonly args: readonly string[];
    readonly env: readonly string[];
    readonly cwd: string;
    readonly capabilities: {
      readonly bounding: readonly string[];
      readonly effective: readonly string[];
      readonly permitted: readonly string[];
    };
    readonly rlimits: readonly { readonly type: string; readonly soft: number; readonly hard: number }[];
    readonly noNewPrivileges: boolean;
  };
  readonly root: { readonly path: string; readonly readonly: boolean };
  readonly hostname: string;
  /** Of the image config (image-spec, conversion.md). */
  readonly annotations?: Readonly<Record<string, string>>;
  readonly mounts: readonly SpecMount[];
  readonly linux: {
    readonly resources: SpecResources & {
      readonly devices: readonly { readonly allow: boolean; readonly access: string }[];
    };
    readonly namespaces: readonly { readonly type: string }[];
    readonly maskedPaths: readonly string[];
    readonly readonlyPaths: readonly string[];
  };
}

export interface SpecMount {
  /** Absolute path in the container. */
  readonly destination: string;
  /** Filesystem type, or `bind`. */
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}
