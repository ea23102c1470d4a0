#!/usr/bin/env bash
# Makes the layers of one image of the cold-start benchmark as plain tars, from Debian's packages (bench/start/start-images.ts compresses them).
#
#   scripts/make-bench-tars.sh numpy|node|java|torch DIR        # DIR/1.tar, DIR/2.tar, ...: the lowest layer first
#
# numpy takes half a minute, torch some minutes (0.9 GB of packages come from the mirror, and DIR needs 3 GB).
set -euo pipefail
name=${1:?usage: make-bench-tars.sh numpy|node|java|torch DIR}
dir=${2:?usage: make-bench-tars.sh NAME DIR}
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$dir"
# A fixed clock: the same packages give the same tars.
export SOURCE_DATE_EPOCH=1700000000

debian() { # debian FILE COMPONENTS PACKAGE,...
  mmdebstrap --quiet --variant=essential --components="$2" ${3:+--include="$3"} \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    bookworm "$1" http://deb.debian.org/debian
}

# What lies in a directory, as a layer of its own.
layer() { # layer FILE DIRECTORY
  tar --create --file "$1" --directory "$2" --sort=name --format=pax --pax-option=delete=atime,delete=ctime \
    --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" .
}

case $name in
  numpy)
    debian "$dir/1.tar" main python3-numpy
    ;;
  java)
    debian "$dir/1.tar" main openjdk-17-jre-headless
    app=$dir/app
    mkdir -p "$app/app"
    # public class Hello { public static void main(String[] args) {
    #   System.out.println("hello from Java " + System.getProperty("java.version")); } }
    # by javac --release 17 -g:none -XDstringConcat=inline: no image needs a compiler for it.
    base64 -d >"$app/app/Hello.class" <<'CLASS'
yv66vgAAAD0AKwoAAgADBwAEDAAFAAYBABBqYXZhL2xhbmcvT2JqZWN0AQAGPGluaXQ+AQADKClWCQAIAAkHAAoMAAsADAEAEGphdmEvbGFuZy9TeXN0ZW0B
AANvdXQBABVMamF2YS9pby9QcmludFN0cmVhbTsHAA4BABdqYXZhL2xhbmcvU3RyaW5nQnVpbGRlcgoADQADCAARAQAQaGVsbG8gZnJvbSBKYXZhIAoADQAT
DAAUABUBAAZhcHBlbmQBAC0oTGphdmEvbGFuZy9TdHJpbmc7KUxqYXZhL2xhbmcvU3RyaW5nQnVpbGRlcjsIABcBAAxqYXZhLnZlcnNpb24KAAgAGQwAGgAb
AQALZ2V0UHJvcGVydHkBACYoTGphdmEvbGFuZy9TdHJpbmc7KUxqYXZhL2xhbmcvU3RyaW5nOwoADQAdDAAeAB8BAAh0b1N0cmluZwEAFCgpTGphdmEvbGFu
Zy9TdHJpbmc7CgAhACIHACMMACQAJQEAE2phdmEvaW8vUHJpbnRTdHJlYW0BAAdwcmludGxuAQAVKExqYXZhL2xhbmcvU3RyaW5nOylWBwAnAQAFSGVsbG8B
AARDb2RlAQAEbWFpbgEAFihbTGphdmEvbGFuZy9TdHJpbmc7KVYAIQAmAAIAAAAAAAIAAQAFAAYAAQAoAAAAEQABAAEAAAAFKrcAAbEAAAAAAAkAKQAqAAEA
KAAAACoAAwABAAAAHrIAB7sADVm3AA8SELYAEhIWuAAYtgAStgActgAgsQAAAAAAAA==
CLASS
    layer "$dir/2.tar" "$app"
    ;;
  node)
    # This machine's node and this checkout's packages: a large node_modules as a service has it, with the program's own part on top.
    debian "$dir/1.tar" main libstdc++6,ca-certificates
    node=$dir/node app=$dir/app
    mkdir -p "$node/usr/local/bin" "$app/app"
    install -m 755 "$(command -v node)" "$node/usr/local/bin/node"
    layer "$dir/2.tar" "$node"
    cp -a "$root/node_modules" "$app/app/"
    rm -rf "$app/app/node_modules/.cache"
    printf '{"type":"module"}\n' >"$app/app/package.json"
    cat >"$app/app/main.js" <<'MAIN'
import { Command } from "commander";
import { LRUCache } from "lru-cache";
import { pino } from "pino";
import { pack } from "tar-stream";
import { Agent } from "undici";
import * as z from "zod";

const settings = z.object({ port: z.coerce.number(), entries: z.number() }).parse({ port: "8080", entries: 10 });
const cache = new LRUCache({ max: settings.entries });
cache.set("logger", pino({ level: "silent" }));
const parts = [new Command("service"), new Agent(), pack()].length;
console.log(`ready on ${settings.port}: ${parts} parts, ${cache.size} cached`);
process.exit(0);
MAIN
    layer "$dir/3.tar" "$app"
    ;;
  torch)
    # As the images of notebooks and model servers are: gigabytes of CUDA libraries, of which a start on a machine without a GPU reads nothing.
    debian "$dir/1.tar" main,contrib,non-free \
      python3-torch,python3-pandas,python3-sklearn,libcublas11,libcublaslt11,libcusolver11,libcusolvermg11,libcusparse11,libcufft10,libcurand10,libnppif11
    ;;
  *)
    echo "make-bench-tars: there is no image $name" >&2
    exit 2
    ;;
esac
rm -rf "$dir/app" "$dir/node"
