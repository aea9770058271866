#!/usr/bin/env bash
# Runs a program in a virtual machine of arm64, with a kernel of Debian: `test/vm/run.sh PROGRAM [FILE=PATH...]`. PROGRAM is a script
# for busybox's shell; the files, and folders with all that is in them, are at those paths. Its output is that of PROGRAM, and so is
# its exit status.
#
# KERNEL is the Debian release that the kernel is of (trixie), VM_SECONDS how long all of it may take. QEMU comes from Debian's
# packages, too, and none is installed. The processor is emulated (TCG): a machine that offers KVM may not have what a guest needs,
# and hangs.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/debian.sh
kernel=${KERNEL:-trixie}
qemu=$PWD/build/vm/qemu guest=$PWD/build/vm/arm64-$kernel
mkdir -p build/vm

dependencies=true unpack_debian bookworm amd64 "$qemu" qemu-system-arm || exit 1
# busybox before the kernel, whose name is in the lists that come with it.
unpack_debian "$kernel" arm64 "$guest" busybox-static libc6 libstdc++6 libgcc-s1 libatomic1 || exit 1
compgen -G "$guest/boot/vmlinuz-*" >/dev/null || unpack_debian "$kernel" arm64 "$guest" "$(kernel_package "$kernel" arm64)" || exit 1
image=$(compgen -G "$guest/boot/vmlinuz-*" | tail -n 1)
busybox=$(compgen -G "$guest/usr/bin/busybox" || compgen -G "$guest/bin/busybox")

log=$(mktemp) initrd=$(mktemp)
trap 'rm -f "$log" "$initrd"' EXIT
program=$1
shift
node test/vm/initrd.mjs "$initrd" test/vm/init=/init "$busybox=/bin/busybox" "$program=/test" "$@" || exit 1
libraries=$qemu/lib/x86_64-linux-gnu:$qemu/usr/lib/x86_64-linux-gnu
timeout "${VM_SECONDS:-1800}" "$qemu/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path "$libraries" \
  "$qemu/usr/bin/qemu-system-aarch64" -nodefaults -no-user-config -accel tcg,thread=multi -machine virt -cpu cortex-a72 -smp 2 \
  -m 1536 -display none -no-reboot -monitor none -serial stdio -kernel "$image" -initrd "$initrd" \
  -append 'console=ttyAMA0 panic=-1 quiet hugepages=8' </dev/null | tr -d '\r' | tee "$log"
# Not QEMU's exit status, which is 0 also after a crash of the guest.
status=$(sed -n 's/^@@ the program ended with //p' "$log")
exit "${status:-1}"
