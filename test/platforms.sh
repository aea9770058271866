#!/usr/bin/env bash
# The native suite on platforms that the package has a binary for, linked with the objects of that binary: musl by Debian's dynamic
# linker of musl, arm64 in a virtual machine (test/vm/run.sh; KERNEL is the Debian release that its kernel is of).
# `test/platforms.sh [target [part of a test's sentence]]`. docs/reference/platforms.md says what was seen. What is needed comes from
# Debian's packages, without installing them, and from `npm run prebuild`. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/.."
here=$PWD/build/platforms
targets=(linux-x64-glibc linux-x64-musl linux-arm64-musl)
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

# In the machine each test has ten minutes: its processors are emulated.
run_in_machine() {
  local program
  program=$(mktemp)
  printf '#!/bin/sh\nTEST_ROUNDS=%s TEST_SECONDS=600 exec /native_test "%s"\n' "${TEST_ROUNDS:-5}" "$2" >"$program"
  chmod +x "$program"
  VM_SECONDS=${VM_SECONDS:-3600} bash test/vm/run.sh "$program" "$1=/native_test"
  local status=$?
  rm "$program"
  return "$status"
}

run_target() {
  local target=$1 runner=()
  case $target in
    linux-x64-glibc) ;;
    linux-x64-musl)
      unpack musl lib/ld-musl-x86_64.so.1 || return
      runner=("$here/lib/ld-musl-x86_64.so.1") ;;
    linux-arm64-musl)
      unpack libgcc-12-dev-arm64-cross usr/lib/gcc-cross/aarch64-linux-gnu/12/libgcc.a || return
      runner=(run_in_machine) ;;
    *) echo "unknown target: $target" >&2; exit 2 ;;
  esac
  [[ -e build/prebuilds/$target/native/core/all.o ]] || node scripts/prebuilds/build.mjs "$target" || return
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
