/**
 * The command line, all of it. Commands import what they need when they run: `skim run` should not wait for modules that it does not use. Those of files-cli.ts are run
 * from there.
 */
import { addBenchCommand } from "./commands/bench.js";
import { addBundleCommand } from "./commands/bundle.js";
import { addCacheCommand } from "./commands/cache.js";
import { addCatCommand } from "./commands/cat.js";
import { runCommandLine } from "./commands/command-line.js";
import { addCpCommand } from "./commands/cp.js";
import { addDaemonCommand } from "./commands/daemon.js";
import { addDoctorCommand } from "./commands/doctor.js";
import { addExecCommand } from "./commands/exec.js";
import { addExplainCommand } from "./commands/explain.js";
import { addFsCommand } from "./commands/fs.js";
import { addGcCommand } from "./commands/gc.js";
import { addIndexCommand } from "./commands/index-image.js";
import { addInspectCommand } from "./commands/inspect.js";
import { addLsCommand } from "./commands/ls.js";
import { addMountCommand, addUmountCommand } from "./commands/mount.js";
import { addProfileCommand } from "./commands/profile.js";
import { addPsCommand } from "./commands/ps.js";
import { addRegistryCommand } from "./commands/registry.js";
import { addRootfsCommand } from "./commands/rootfs.js";
import { addRunCommand } from "./commands/run.js";
import { addStatCommand } from "./commands/stat.js";
import { addStatsCommand } from "./commands/stats.js";
import { addTopCommand } from "./commands/top.js";
import { addTreeCommand } from "./commands/tree.js";
import { addUnpackCommand } from "./commands/unpack.js";
import { addVerifyCommand } from "./commands/verify.js";

void runCommandLine({
  index: addIndexCommand,
  inspect: addInspectCommand,
  ls: addLsCommand,
  cat: addCatCommand,
  stat: addStatCommand,
  tree: addTreeCommand,
  verify: addVerifyCommand,
  mount: addMountCommand,
  umount: addUmountCommand,
  rootfs: addRootfsCommand,
  bundle: addBundleCommand,
  run: addRunCommand,
  doctor: addDoctorCommand,
  explain: addExplainCommand,
  exec: addExecCommand,
  cp: addCpCommand,
  fs: addFsCommand,
  unpack: addUnpackCommand,
  profile: addProfileCommand,
  cache: addCacheCommand,
  bench: addBenchCommand,
  ps: addPsCommand,
  stats: addStatsCommand,
  daemon: addDaemonCommand,
  gc: addGcCommand,
  top: addTopCommand,
  registry: addRegistryCommand,
});
