#!/usr/bin/env bash
# Makes an OCI layout with one Debian image: Python and numpy, in one gzip layer, from Debian's packages.
#
#   scripts/make-debian-image.sh DIR        # the image is oci:DIR:debian
#
# Takes about a minute; does nothing when DIR has the image already. Several that are started at once make it once.
set -euo pipefail
dir=${1:?usage: make-debian-image.sh DIR}
[ -e "$dir/.complete" ] && exit 0
mkdir -p "$(dirname "$dir")"
exec {lock}>"$dir.lock"
flock "$lock"
[ -e "$dir/.complete" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$dir"

# A fixed clock: the same packages give the same tar.
export SOURCE_DATE_EPOCH=1700000000
mmdebstrap --quiet --variant=essential --include=python3-numpy \
  --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
  bookworm "$work/rootfs.tar" http://deb.debian.org/debian

umoci init --layout "$work/layout"
umoci new --image "$work/layout:debian"
umoci raw add-layer --image "$work/layout:debian" "$work/rootfs.tar"
umoci config --image "$work/layout:debian" --config.cmd python3 --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umoci gc --layout "$work/layout"
touch "$work/layout/.complete"
mv "$work/layout" "$dir"
