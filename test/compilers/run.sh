#!/usr/bin/env bash
# Whether native/ compiles without a warning, with the oldest and the newest compiler of each family: `test/compilers/run.sh`.
# `--all` adds those between, the native tests, and with gcc the warnings that only optimisation finds; minutes for each compiler.
# `--only 'gcc 16'` is that one. The compilers are Debian's, of four releases; the last line is `N passed, N failed`, in files.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/compilers/common.sh

# The oldest and newest, and where Debian has them.
ends=('gcc 10 bullseye' 'clang 14 bookworm' 'gcc 16 sid' 'clang 23 sid')
between=('gcc 11 bookworm' 'gcc 12 bookworm' 'gcc 13 trixie' 'gcc 14 trixie' 'gcc 15 sid' 'clang 15 bookworm' 'clang 16 bookworm'
  'clang 17 trixie' 'clang 18 trixie' 'clang 19 trixie' 'clang 21 sid' 'clang 22 sid')
# Their C library, and that of C++ that gcc has in the same release.
declare -A library=([bullseye]=10 [bookworm]=12 [trixie]=14 [sid]=16)
system=(libc6 libc6-dev linux-libc-dev libgcc-s1 libstdc++6 libzstd1 zlib1g)

prepare_gcc() {
  local version=$1 release=$2 suffix='' wrapper
  [[ $version -lt 13 ]] || suffix=-${triple//_/-}
  debian "$release" "${system[@]}" "cpp-$version$suffix" "g++-$version$suffix" "libgcc-$version-dev" "libstdc++-$version-dev" libgmp10 \
    libisl23 libmpc3 libmpfr6 || return
  wrapper=${run[*]}
  compiler=("${run[@]}" "$root/usr/bin/$triple-g++-$version" -wrapper "${wrapper// /,}" -fno-use-linker-plugin)
}

prepare_clang() {
  local version=$1 release=$2 more
  case $release in
    bookworm) more='libxml2 libicu72' ;;
    trixie) more='libxml2 libicu76' ;;
    sid) more='libxml2-16' ;;
  esac
  # shellcheck disable=SC2086 # names
  debian "$release" "${system[@]}" "clang-$version" "libclang-cpp$version" "libllvm$version" "libclang-common-$version-dev" libedit2 \
    libffi8 libz3-4 libtinfo6 libbsd0 libmd0 liblzma5 $more "libgcc-${library[$release]}-dev" "libstdc++-${library[$release]}-dev" || return
  local resources=("$root/usr/lib/llvm-$version/lib/clang/$version"*)
  compiler=("${run[@]}" "$root/usr/lib/llvm-$version/bin/clang" --driver-mode=g++ -resource-dir "${resources[0]}")
}

compile() {
  "${compiler[@]}" --sysroot="$root" "${flags[@]}" -Wall -Wextra -Werror "${mode[@]}" "$1"
}

all=false
compilers=("${ends[@]}")
case ${1:-} in
  --all)
    all=true
    compilers+=("${between[@]}")
    sources+=(test/native/*.cc) ;;
  --only)
    mapfile -t compilers < <(printf '%s\n' "${ends[@]}" "${between[@]}" | grep "^${2:-} ")
    [[ ${#compilers[@]} -eq 1 ]] || { echo "no such compiler: ${2:-}" >&2; exit 2; } ;;
  '') ;;
  *) echo "unknown argument: $1 (--all, --only)" >&2; exit 2 ;;
esac
compiled=0
for name in "${compilers[@]}"; do
  read -r family version release <<<"$name"
  begin=$SECONDS before=$(wc -l <"$failures")
  if ! "prepare_$family" "$version" "$release"; then
    compiled=$((compiled + 1))
    echo "$name" >>"$failures"
    continue
  fi
  mode=(-fsyntax-only)
  [[ $all = false || $family != gcc ]] || mode=(-O2 -S -o /dev/null)
  # Whether a file includes all that it needs, the library of the newest gcc shows, if it is compiled by itself.
  if [[ $all = true || $name = 'gcc 16 sid' ]]; then each_file compile; else each_folder compile; fi
  compiled=$((compiled + ${#sources[@]}))
  echo "$family $version: ${#sources[@]} files, $(($(wc -l <"$failures") - before)) failed, $((SECONDS - begin)) s"
done
summary "$compiled"
