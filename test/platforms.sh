#!/usr/bin/env bash
# The native suite on every platform that the package has a binary for, linked with the objects of that binary: musl by Debian's
# dynamic linker of musl, arm64 under qemu's emulation of one process. `test/platforms.sh [target [part of a test's sentence]]`.
# docs/reference/platforms.md says what the emulation cannot do. What is needed comes from Debian's packages, without installing
# them, and from `npm run prebuild`. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/.."
here=$PWD/build/platforms
targets=(linux-x64-glibc linux-x64-musl linux-arm64-glibc linux-arm64-musl)
[[ -z ${1:-} ]] || targets=("$1")
passed=0
failed=0

# unpack package file: the file of a Debian package, below $here.
unpack() {
  [[ -e $here/$2 ]] && return
  mkdir -p "$here/packages"
  (cd "$here/packages" && { apt-get download "$1" || { apt-get update && apt-get download "$1"; }; }) >/dev/null 2>&1
  dpkg -x "$here/packages/$1"_*.deb "$here" && [[ -e $here/$2 ]]
}

run_target() {
  local target=$1 runner=()
  case $target in
    linux-x64-glibc) ;;
    linux-x64-musl)
      unpack musl lib/ld-musl-x86_64.so.1 || return
      runner=("$here/lib/ld-musl-x86_64.so.1") ;;
    linux-arm64-glibc)
      unpack qemu-user-static usr/bin/qemu-aarch64-static && unpack libc6-arm64-cross usr/aarch64-linux-gnu/lib || return
      runner=("$here/usr/bin/qemu-aarch64-static" -L "$here/usr/aarch64-linux-gnu") ;;
    linux-arm64-musl)
      unpack qemu-user-static usr/bin/qemu-aarch64-static || return
      runner=("$here/usr/bin/qemu-aarch64-static") ;;
    *) echo "unknown target: $target" >&2; exit 2 ;;
  esac
  [[ -e build/prebuilds/$target/native/core.o ]] || node scripts/prebuilds/build.mjs "$target" || return
  node test/platforms/build.mjs "$target" "build/platforms/$target/native_test" || return
  "${runner[@]}" "build/platforms/$target/native_test" "${2:-}"
}

output=$(mktemp)
trap 'rm -f "$output"' EXIT
for target in "${targets[@]}"; do
  echo "== $target"
  run_target "$target" "${2:-}" 2>&1 | tee "$output"
  lines=$(grep -oE '^[0-9]+ passed, [0-9]+ failed' "$output") || { echo "$target reported no counts"; failed=$((failed + 1)); }
  while read -r good _ bad _; do
    [[ -z $good ]] || { passed=$((passed + good)); failed=$((failed + bad)); }
  done <<<"$lines"
done
echo "$passed passed, $failed failed"
[[ $failed -eq 0 && $passed -gt 0 ]]
