#!/usr/bin/env bash
# Proves that a program at the limit of its control group is told of it, and that a guarded one that the kernel kills there comes back and knows
# why, on a kernel that has control groups of version 2 with the memory controller: boots a guest under qemu, by software emulation, and runs the tests of Fort there that need one (elsewhere they are skipped).
#
#     scripts/test-memory-limit.sh
#
# The kernel is the one that scripts/test-numa.sh unpacks (.build-numa/vmlinuz); MEMORY_KERNEL=FILE takes another one, in which everything is
# built in. Built are the tests, in debug. The guest has MEMORY_SECONDS (600). Needs qemu-system-x86_64, busybox and cpio.
set -euo pipefail
cd "$(dirname "$0")/.."

kernel=${MEMORY_KERNEL:-.build-numa/vmlinuz}
if [ ! -s "$kernel" ]; then
    echo "test-memory-limit: no kernel at $kernel: run scripts/test-numa.sh once, or set MEMORY_KERNEL to one" >&2
    exit 1
fi
swift build --build-tests -j 2 --disable-build-manifest-caching >/dev/null
built=$(swift build --show-bin-path)
tests=$built/bastionPackageTests.xctest

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp}
cp "$(command -v busybox)" "$root/bin/busybox"
strip --strip-debug -o "$root/bin/tests" "$tests"
strip --strip-debug -o "$root/bin/fort-fixture" "$built/fort-fixture"
for program in "$tests" "$built/fort-fixture" "$root/bin/busybox"; do
    { ldd "$program" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
done
cat >"$root/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
# The program behind a guard is asked by TCP.
ifconfig lo 127.0.0.1 up
cd /tmp
{
    tests --testing-library swift-testing --filter 'MemoryLimitTests|MemoryWatchTests|MemoryFilesTests' 2>&1
    echo "guest: status $?"
} >/dev/ttyS1
poweroff -f
END
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$folder/initrd"

# One that does not come to its programs, as on a loaded host it may, has proven nothing.
for attempt in 1 2 3; do
    status=0
    timeout "${MEMORY_SECONDS:-600}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1536 -nodefaults -no-reboot \
        -display none -serial "file:$folder/console" -serial "file:$folder/log" -kernel "$kernel" -initrd "$folder/initrd" \
        -append "console=ttyS0 quiet panic=-1 rdinit=/init psi=1" </dev/null || status=$?
    if [ $status -ne 0 ]; then echo "test-memory-limit: qemu ended with status $status"; fi
    if grep -aq 'Test run started' "$folder/log"; then break; fi
    echo "test-memory-limit: the guest has run nothing (attempt $attempt):"
    tail -5 "$folder/console"
done
if ! grep -aq 'guest: status 0' "$folder/log" || ! grep -aq 'aProgramAtItsLimitIsTold() passed' "$folder/log" ||
    ! grep -aq 'aGuardedProgramThatIsKilledForWantOfMemoryComesBackAndKnowsWhy() passed' "$folder/log"; then
    cat "$folder/log"
    tail -5 "$folder/console"
    echo "test-memory-limit: FAILED" >&2
    exit 1
fi
grep -a 'passed after' "$folder/log"
echo "test-memory-limit: passed"
