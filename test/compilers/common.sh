# Sourced by the lanes of this folder, with the repository as the working folder: compilers of other Debian releases than this
# machine's, and how native code is compiled.

jobs=${JOBS:-$(nproc)}
triple=$(uname -m)-linux-gnu

. test/debian.sh

# debian RELEASE PACKAGE...: unpacks them below build/debian/RELEASE and sets `root` to that, `run` to the beginning of a command
# that runs a program of theirs. Its programs run by its own dynamic linker with its own C library, so a release may be older or
# newer than what this machine has.
debian() {
  local release=$1
  shift
  root=$PWD/build/debian/$release
  unpack_debian "$release" "$(dpkg --print-architecture)" "$root" "$@" || { echo "could not get $* of Debian's $release" >&2; return 1; }
  local libraries=("$root"/{,usr/}lib/"$triple" $(compgen -G "$root/usr/lib/llvm-*/lib"))
  run=("$(compgen -G "$root/usr/lib/$triple/ld-linux*.so.*" || compgen -G "$root/lib/$triple/ld-linux*.so.*")" --library-path
    "$(IFS=:; echo "${libraries[*]}")")
}

# The same for each compiler, beside its own. Headers that are not of this repository are the system's: no warnings of theirs.
[[ -e build/config.gypi ]] || npx node-gyp configure >/dev/null
node_headers=$(node -p "JSON.parse(fs.readFileSync('build/config.gypi', 'utf8').replace(/^#.*/, '')).variables.nodedir")/include/node
flags=(-std=c++20 -fno-exceptions -fno-rtti -I . -I native -I include -I test/native -DNAPI_VERSION=9 -DNAPI_DISABLE_CPP_EXCEPTIONS
  -DNODE_ADDON_API_DISABLE_DEPRECATED -isystem "$(node -p "require('node-addon-api').include_dir")" -isystem "$node_headers")

mapfile -t sources < <(git ls-files 'native/*.cc')
failures=$(mktemp)
trap 'rm -f "$failures"' EXIT

# each_file COMMAND...: runs it for each of the sources, with the file as its last argument, as many as there are processors.
# Those for which it fails are added to `failures`.
each_file() {
  local file running=0
  for file in "${sources[@]}"; do
    ((running++ < jobs)) || wait -n
    one_file "$file" "$@" &
  done
  wait
}

one_file() {
  "${@:2}" "$1" 2>&1 || echo "$1" >>"$failures"
}

# The same, but a folder's files as one, since to read the headers of the system takes most of a file's time. Where that fails, if
# only because two files use one name, each is looked at by itself.
each_folder() {
  local folder running=0
  for folder in $(printf '%s\n' "${sources[@]%/*}" | sort -u); do
    ((running++ < jobs)) || wait -n
    one_folder "$folder" "$@" &
  done
  wait
}

one_folder() {
  local folder=$1 file
  local whole=build/compilers/$folder.cc
  shift
  mkdir -p "$(dirname "$whole")"
  printf '#include "%s"\n' "$folder"/*.cc >"$whole"
  "$@" "$whole" >/dev/null 2>&1 && return
  for file in "$folder"/*.cc; do one_file "$file" "$@"; done
}

# summary RUNS: what a lane ends with, after so many compilations.
summary() {
  local failed
  failed=$(wc -l <"$failures")
  echo "$(($1 - failed)) passed, $failed failed"
  [[ $failed -eq 0 ]]
}
