#!/usr/bin/env bash
# Makes a checkout usable: Debian packages that are missing, npm's packages, the addon, dist/. Each step is skipped when what it would make is
# newer than what it is made from, so running this again costs a fraction of a second. Sourced or called by demo.sh and test.sh.
#
#   scripts/setup.sh [--for run|test|bench]
set -euo pipefail
cd "$(dirname "$0")/.."

# What skim itself needs, what the demo adds, and what only tests use.
packages_run=(g++ make python3 libdeflate-dev libisal-dev libzstd-dev libfuse2 runc)
packages_demo=(skopeo umoci)
packages_test=(docker-registry mmdebstrap busybox-static crun runsc pigz zstd bzip2 xz-utils attr libarchive-tools fuse3 umoci skopeo openssl libcap2-bin xfsprogs btrfs-progs)
packages_bench=(procps fio umoci skopeo mmdebstrap e2fsprogs xfsprogs btrfs-progs)

purpose=run
[ "${1:-}" = --for ] && purpose=$2

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || fail "skim runs on Linux only"
command -v node >/dev/null || fail "node is missing; install Node.js 20.19 or later (https://nodejs.org)"
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
  fail "node $(node -v) is too old; 20.19 or later is needed"
[ "$(id -u)" = 0 ] || fail "root is needed to mount; run: sudo $0 $*"
if [ ! -e /dev/fuse ]; then
  modprobe fuse 2>/dev/null || true
  [ -e /dev/fuse ] || fail "/dev/fuse is missing; run: modprobe fuse (in a container: give it --device /dev/fuse)"
fi
grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || true
grep -qw overlay /proc/filesystems || fail "the kernel has no overlayfs; run: modprobe overlay"

wanted=("${packages_run[@]}")
case $purpose in
  run) ;;
  demo) wanted+=("${packages_demo[@]}") ;;
  test) wanted+=("${packages_test[@]}") ;;
  bench) wanted+=("${packages_bench[@]}") ;;
  *) fail "unknown purpose $purpose" ;;
esac
missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: installing Debian packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; fail "apt-get could not install them; run: apt-get install ${missing[*]}"; }
  rm -f "$log"
fi

# npm leaves the lock file it installed from in node_modules: equal contents mean nothing to do.
if ! cmp -s package-lock.json node_modules/.skim-lock; then
  echo "setup: npm ci"
  npm ci --silent --no-progress
  cp package-lock.json node_modules/.skim-lock
fi

# newer TARGET FILE...: some file of what TARGET is made from has changed since it was made.
newer() {
  local target=$1
  shift
  [ ! -e "$target" ] || [ -n "$(find "$@" -type f -newer "$target" -print -quit)" ]
}
if [ ! -e native/build/Release/skim-files ] || newer native/build/Release/skim.node native/*.cc native/*.h native/files native/fuse native/gzip native/posix native/unpack native/binding.gyp; then
  echo "setup: building the native addon"
  log=$(mktemp)
  npm run --silent build:native >"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "the addon does not build; see above"; }
  rm -f "$log"
fi
if newer dist/bin/skim.js src package.json tsconfig.json; then
  echo "setup: compiling TypeScript"
  npm run --silent build:ts
fi
