#!/usr/bin/env bash
# Whether the native code compiles for arm64, where nothing here can run it. Installs the compiler (Debian's) where it is missing;
# where that cannot be had (no root, no network), it says so and checks nothing. The last line is `N passed, N failed`, in files.
set -uo pipefail
cd "$(dirname "$0")/.."
compiler=aarch64-linux-gnu-g++
if ! command -v "$compiler" >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get install -y --no-install-recommends g++-aarch64-linux-gnu; } >/dev/null 2>&1
fi
if ! command -v "$compiler" >/dev/null; then
  echo "skipped: $compiler is not there and could not be installed"
  echo '0 passed, 0 failed'
  exit
fi
files=(native/{base,instruction,core,fault,device,share}/*.cc)
failures=$(mktemp)
trap 'rm -f "$failures"' EXIT
printf '%s\n' "${files[@]}" | xargs -P "${JOBS:-2}" -I {} sh -c '
  "$1" -std=c++20 -Wall -Wextra -Werror -fno-exceptions -fno-rtti -fsyntax-only -I native -I include "$2" || echo "$2" >>"$3"
' sh "$compiler" {} "$failures"
failed=$(wc -l <"$failures")
echo "$((${#files[@]} - failed)) passed, $failed failed"
[[ $failed -eq 0 ]]
