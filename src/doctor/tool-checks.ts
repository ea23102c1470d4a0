/** Programs that whoever uses the container counts on, and paths that programs have written into them. */
import { type ByteString, byteStringFromText, displayText } from "../base/byte-string.js";
import { startPrograms } from "../program/start-programs.js";
import { type Check, type Finding, fail, listText, ok, warn } from "./check.js";
import { loadersOf } from "./loaders.js";
import { startProblems } from "./start-problems.js";
import type { Subject } from "./subject.js";
import { toolProfiles } from "./tool-profiles.js";

export const toolChecks: readonly Check[] = [
  {
    id: "tool",
    asks: "are the programs of --profile and --require there, and can each be started",
    fix: "install their packages, or choose an image that has them",
    run: tools,
  },
  {
    id: "shell-path",
    asks: "is there a /bin/sh, which scripts and shell commands name",
    fix: "install a shell, or use the exec form of commands and no scripts",
    run: (subject) =>
      standardPath(subject, "/bin/sh", "scripts and the shell form of commands cannot be started"),
  },
  {
    id: "env-path",
    asks: "is there a /usr/bin/env, which scripts name",
    fix: "install coreutils or busybox, or name interpreters by their paths",
    run: (subject) =>
      standardPath(subject, "/usr/bin/env", "scripts that begin with #!/usr/bin/env cannot be started"),
  },
  {
    id: "loader-path",
    asks: "is there a dynamic loader where programs of other systems look for it (/lib64/ld-*, /lib/ld-*)",
    fix: "use static programs, or an image with the C library they are built for",
    run: loaderPath,
  },
  {
    id: "certificates",
    asks: "are there certificates of authorities, without which TLS fails",
    fix: "install ca-certificates",
    run: certificates,
  },
];

async function tools(subject: Subject): Promise<Finding[]> {
  const { toolProfile, tools: required = [] } = subject.start;
  const names = [...new Set([...(toolProfile ? toolProfiles[toolProfile] : []), ...required])];
  const findings: Finding[] = [];
  const present: string[] = [];
  for (const name of names) {
    const [problem] = await toolProblems(subject, byteStringFromText(name));
    if (problem) findings.push({ ...problem, path: displayText(byteStringFromText(name)) });
    else present.push(name);
  }
  return present.length > 0 ? [...findings, ok(`there: ${listText(present, 20)}`)] : findings;
}

async function toolProblems(subject: Subject, name: ByteString): Promise<Finding[]> {
  const steps = await startPrograms(subject.programs, subject.commandOf([name]), { libraries: false });
  const asked = subject.start.toolProfile ? ` (for --profile ${subject.start.toolProfile})` : "";
  const missing = steps[0]?.kind === "missing" && steps[0].why !== "EACCES";
  if (missing)
    return [
      fail(
        displayText(name),
        `not in the image, by PATH${asked}: whoever calls it is told "not found"`,
        `install the package that has ${displayText(name)}, or choose an image with it`,
      ),
    ];
  const problems = await startProblems(subject, steps);
  return problems.map(({ kind: _, ...problem }) => ({
    ...problem,
    detail: problem.path === displayText(name) ? problem.detail : `${problem.path}: ${problem.detail}`,
  }));
}

function standardPath(subject: Subject, path: string, consequence: string): Finding[] {
  const { file } = subject.programs.find(path as ByteString);
  if (!file)
    return [
      warn(path, `not in the image: ${consequence}`, "install what brings it, where something needs it"),
    ];
  const shown = displayText(file.path);
  return [ok(shown === path ? "there" : `there, a way to ${shown}`, path)];
}

function loaderPath(subject: Subject): Finding[] {
  const loaders = loadersOf(subject);
  if (loaders.length > 0) return [ok(`there: ${listText(loaders.map(displayText))}`)];
  return [
    warn(
      "/lib64/ld-*",
      "no dynamic loader where programs look for one: only static programs, and those built for this tree, can be started",
      "inject static programs only, or choose an image with a C library",
    ),
  ];
}

/** Where OpenSSL, Go (crypto/x509/root_linux.go) and distributions look. */
const certificatePaths = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/tls/cacert.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

function certificates(subject: Subject): Finding[] {
  const named = subject.env.find((one) => one.startsWith("SSL_CERT_FILE="))?.slice("SSL_CERT_FILE=".length);
  const paths = named ? [named, ...certificatePaths] : certificatePaths;
  const found = paths.find((path) => (subject.programs.find(path as ByteString).file?.bytes ?? 0) > 0);
  if (found) return [ok("there", displayText(found as ByteString))];
  return [
    warn(
      "/etc/ssl/certs",
      "no certificates of authorities in the usual places: TLS connections of most programs fail",
      "install ca-certificates, or mount a bundle and name it in SSL_CERT_FILE",
    ),
  ];
}
