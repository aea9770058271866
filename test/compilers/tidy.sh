#!/usr/bin/env bash
# clang-tidy over native/, by the profile .clang-tidy: `test/compilers/tidy.sh [file...]`. The last line is `N passed, N failed`, in
# files, with one more for a file of known faults.
# Version 22 is the first that does not walk through the headers of the system, which took most of the time.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/compilers/common.sh
debian trixie clang-tidy-22 libclang-cpp22 libllvm22 libclang-common-22-dev libc6 libstdc++6 libgcc-s1 libedit2 libffi8 libxml2 \
  libicu76 libz3-4 libzstd1 zlib1g libtinfo6 libbsd0 libmd0 liblzma5 libstdc++-14-dev libgcc-14-dev libc6-dev linux-libc-dev || exit 1
llvm=$root/usr/lib/llvm-22

tidy() {
  "${run[@]}" "$llvm/bin/clang-tidy" --quiet --config-file=.clang-tidy --checks="${checks:-}" "$1" -- "${flags[@]}" -Wall -Wextra \
    --sysroot="$root" -resource-dir "$llvm/lib/clang/22"
}

# A fault for each group of the profile, and one in a header. It finds them all, or what it says of the others means nothing.
finds_known_faults() {
  local folder=build/compilers/native
  mkdir -p "$folder"
  echo 'inline int one(bool other) { return other ? 1 : 1; }' >"$folder/known_faults.h"
  cat >"$folder/known_faults.cc" <<'END'
#include "known_faults.h"
#include <cstdlib>
#include <string>
#include <vector>
size_t known_faults(const std::vector<std::string>& names) {
  size_t length = static_cast<size_t>(one(getenv("HOME") == nullptr));
  for (const std::string name : names) length += name.size();
  int unused;
  return length;
}
END
  local found fault
  found=$(tidy "$folder/known_faults.cc" 2>&1) && { echo 'known faults are no errors'; return 1; }
  for fault in 'h:1:.*bugprone-branch-clone' 'cc:6:.*concurrency-mt-unsafe' 'cc:7:.*performance-for-range-copy' \
    'cc:8:.*clang-diagnostic-unused-variable'; do
    grep -q "known_faults.$fault" <<<"$found" || { echo "known_faults.$fault was not found"; return 1; }
  done
}

if [[ $# -gt 0 ]]; then
  for file in "$@"; do one_file "$file" tidy; done
  summary $#
  exit
fi
finds_known_faults || echo 'known faults' >>"$failures"
checks=-bugprone-suspicious-include each_folder tidy # a folder as one file includes its sources
summary $((${#sources[@]} + 1))
