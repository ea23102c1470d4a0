import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { makeTempDir } from "./temp-dir.js";

export interface Certificate {
  readonly key: string;
  readonly cert: string;
}

/** The CA's database, its policy and nothing else: `openssl ca` can make a certificate of any time, as `openssl req` cannot. */
const caConfig = `[ca]
default_ca = here
[here]
database = ./database
new_certs_dir = .
serial = ./serial
default_md = sha256
policy = any
email_in_dn = no
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = IP:127.0.0.1,DNS:localhost
`;

/** A certificate for loopback that nobody knows. `expired`: it was good for a day, in 2020. */
export async function makeCertificate(options: { expired?: boolean } = {}): Promise<Certificate> {
  const dir = await makeTempDir("certificate");
  const inDir = (name: string) => path.join(dir, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: dir, stdio: "ignore" });
  mkdirSync(dir, { recursive: true });
  writeFileSync(inDir("ca.conf"), caConfig);
  writeFileSync(inDir("database"), "");
  writeFileSync(inDir("serial"), "01\n");
  openssl(
    ...["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
    ...["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request.pem"],
  );
  const [start, end] = options.expired
    ? ["20200101000000Z", "20200102000000Z"]
    : ["20200101000000Z", "20991231000000Z"];
  openssl(
    ...["ca", "-batch", "-config", "ca.conf", "-selfsign", "-keyfile", "key.pem", "-in", "request.pem"],
    ...["-out", "cert.pem", "-notext", "-startdate", start!, "-enddate", end!],
  );
  return { key: readFileSync(inDir("key.pem"), "utf8"), cert: readFileSync(inDir("cert.pem"), "utf8") };
}
