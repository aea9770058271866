# Sourced by test lanes, with the repository as the working folder: packages of any Debian release and architecture, unpacked into a
# folder and not installed. Each release and architecture has package lists of its own, from the archive that apt uses.

# unpack_debian RELEASE ARCHITECTURE ROOT PACKAGE...: those that are not below ROOT yet. With `dependencies=true` also all that they
# depend on.
unpack_debian() {
  local release=$1 architecture=$2 root=$3 missing=() package
  shift 3
  for package in "$@"; do [[ -e $root/.unpacked/$package ]] || missing+=("$package"); done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  local state=$PWD/build/debian/apt-$release-$architecture archive
  archive=$(apt-get indextargets --no-release-info --format '$(REPO_URI)' | grep -m 1 '/debian/*$') || { echo 'apt has no Debian archive' >&2; return 1; }
  mkdir -p "$state"/{lists,cache/archives}/partial "$root/.unpacked"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $release main" >"$state/sources.list"
  : >"$state/status"
  cat >"$state/apt.conf" <<END
Dir::State "$state"; Dir::State::lists "$state/lists"; Dir::State::status "$state/status"; Dir::Cache "$state/cache";
Dir::Etc::sourcelist "$state/sources.list"; Dir::Etc::sourceparts "-"; APT::Sandbox::User "root"; Acquire::Languages "none";
APT::Architecture "$architecture"; APT::Architectures "$architecture"; APT::Install-Recommends "false"; Debug::NoLocking "true";
END
  local apt=(env "APT_CONFIG=$state/apt.conf" apt-get -qq) get=(download)
  [[ ${dependencies:-false} = false ]] || get=(install --download-only --yes)
  # The lists of a release that changes are of minutes ago, or what they name is no longer there.
  "${apt[@]}" update && (cd "$state/cache/archives" && rm -f -- *.deb && "${apt[@]}" "${get[@]}" "${missing[@]}") || return
  printf '%s\0' "$state"/cache/archives/*.deb | xargs -0 -P "$(nproc)" -I {} dpkg -x {} "$root" || return
  rm "$state"/cache/archives/*.deb
  for package in "${missing[@]}"; do : >"$root/.unpacked/$package"; done
}

# kernel_package RELEASE ARCHITECTURE: the name of the newest kernel for virtual machines; its lists must be there.
kernel_package() {
  APT_CONFIG=$PWD/build/debian/apt-$1-$2/apt.conf apt-cache depends "linux-image-cloud-$2" | awk '/Depends:/ { print $2; exit }'
}
