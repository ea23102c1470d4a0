/**
 * How much a container's process may do: docker's defaults, for which images in the field are made, or those of `runc spec`, for programs that need less.
 */
import { defaultCapabilities } from "./docker-defaults.js";

export const profileNames = ["docker", "runc"] as const;
export type ProfileName = (typeof profileNames)[number];

export interface SpecProfile {
  readonly capabilities: readonly string[];
  /** True: setuid programs and file capabilities give nothing. */
  readonly noNewPrivileges: boolean;
}

export const specProfiles: Readonly<Record<ProfileName, SpecProfile>> = {
  docker: { capabilities: defaultCapabilities, noNewPrivileges: false },
  runc: {
    capabilities: ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
    noNewPrivileges: true,
  },
};
