#!/usr/bin/env bash
# Proves the placement of workers and their memory on machines with several NUMA nodes, which qemu makes up: boots a Linux
# guest with two sockets of two nodes each and distances between them, by software emulation, and runs numa-proof in it, and the
# program of Examples that draws the machine (Tests/NumaProof, built in release with a static standard library). Twice: with the whole machine, and with parts of it
# that a cpuset allows.
#
#     scripts/test-numa.sh               both guests
#     scripts/test-numa.sh whole|part    one
#
# The kernel is Debian's for virtual machines, unpacked from its package and not installed; NUMA_KERNEL=FILE takes another one,
# in which everything is built in. Build, kernel and logs are kept in .build-numa: of each guest NAME.log, what the programs
# said, and NAME.console, what the kernel did.
#
# How fast the machine is, and how busy, does not matter: what is asserted are places and counters, no times. A guest that has
# not come to its programs after NUMA_BOOT_SECONDS (240) has proven nothing and is booted again, up to three times. From there
# on its programs have NUMA_SECONDS (900).
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -m)" != x86_64 ]; then
    echo "test-numa: the guest runs what is built here, and is an x86-64 machine; this one is not" >&2
    exit 1
fi
if [ $# -eq 0 ]; then set -- whole part; fi
folder=.build-numa
mkdir -p $folder

build() {
    local flags=(-c release -j 2 --package-path Tests/NumaProof --scratch-path $folder --static-swift-stdlib)
    swift build "${flags[@]}" --disable-build-manifest-caching >$folder/build.log 2>&1 || {
        cat $folder/build.log
        return 1
    }
}

# The newest kernel for virtual machines, then the newest for all machines, as the package lists at hand know them.
kernel_packages() {
    local any
    for any in linux-image-cloud-amd64 linux-image-amd64; do
        apt-cache depends $any 2>/dev/null | awk '/Depends: linux-image/ && !seen { seen = 1; print $2 }'
    done
}

# What a command has to say counts only if it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    if [ $status -ne 0 ]; then sed 's/^/    /' "$log"; fi
    rm "$log"
    return $status
}

update_lists() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
    quietly ${as_root[@]+"${as_root[@]}"} apt-get -qq update || echo "test-numa: cannot update the package lists"
}

unpack_kernel() { # PACKAGE
    local place status=0
    place=$(mktemp -d)
    (cd "$place" && quietly apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$1" && quietly dpkg-deb -x ./*.deb .) &&
        cp "$place"/boot/vmlinuz-* $folder/vmlinuz.new && mv $folder/vmlinuz.new $folder/vmlinuz || status=$?
    rm -r "$place"
    return $status
}

# Unpacks a kernel, unless that was done before. The lists at hand may be missing, or so old that the mirror does not have what
# they name any more.
fetch_kernel() {
    if [ -s $folder/vmlinuz ]; then return; fi
    local attempt package
    for attempt in 1 2 3; do
        if [ $attempt -gt 1 ]; then update_lists; fi
        for package in $(kernel_packages); do
            if unpack_kernel "$package"; then return; fi
            echo "test-numa: cannot have $package (attempt $attempt)"
        done
        if [ $attempt -eq 2 ]; then sleep 10; fi
    done
    echo "test-numa: FAILED: no kernel, neither of linux-image-cloud-amd64 nor of linux-image-amd64; set NUMA_KERNEL to one"
    return 1
}

# The guest's file system: busybox, the programs, and the libraries that they still need.
make_root() {
    local root=$folder/root program library
    rm -rf $root
    mkdir -p $root/{bin,proc,sys,dev,cgroup,tmp}
    cp "$(command -v busybox)" $root/bin/busybox
    for program in numa-proof topology; do
        strip --strip-debug -o $root/bin/$program $folder/release/$program
    done
    for program in busybox numa-proof topology; do
        { ldd $root/bin/$program 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | while read -r library; do
            mkdir -p "$root$(dirname "$library")"
            cp -L "$library" "$root$library"
        done
    done
}

# What both guests do first: `proof NAME OPTIONS...` runs the program and tells how often it warned of its memory; `draw` shows
# what the program of Examples says of the machine, and its plan. They tell it by a line that neither the kernel nor anybody else
# writes to, and that is closed after each: then the kernel waits until all of it is out.
prelude() {
    cat <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /cgroup
tell() { cat >/dev/ttyS1; }
proof() {
    name=$1
    shift
    {
        numa-proof "$@" 2>/tmp/err
        echo "status $?"
    } | while IFS= read -r line; do echo "$name: $line"; done | tell
    {
        grep -v 'bastion: memory may lie' /tmp/err | sed "s/^/$name: stderr: /"
        echo "$name: warnings $(grep -c 'bastion: memory may lie' /tmp/err)"
    } | tell
}
draw() {
    { topology && topology --json; } >/tmp/out 2>&1
    status=$?
    {
        grep -E '^(Machine  |Usable|Workers| +[0-9]+( +[0-9][0-9])+$|[{])' /tmp/out | sed 's/^/drawn: /'
        echo "drawn: status $status"
    } | tell
}
allow() {
    mkdir -p /cgroup/part
    echo "$1" >/cgroup/part/cpuset.cpus
    echo "$2" >/cgroup/part/cpuset.mems
}
# The kernel goes on without a processor that takes too long to come up.
if [ "$(cat /sys/devices/system/cpu/online)" != 0-7 ]; then
    echo "guest: unfit: processors $(cat /sys/devices/system/cpu/online) of 0-7" | tell
    poweroff -f
fi
echo "guest: began" | tell
END
}

epilogue() {
    cat <<'END'
echo "guest: done" | tell
poweroff -f
END
}

# Two processors of four hardware threads; a node has two of them, one core each.
whole() {
    shape=sockets=2,cores=4,threads=1
    expected="whole 56 0
sandboxed 9 1"
    drawn='Machine   this machine: 8 PUs, 8 cores, 2 packages, 4 NUMA nodes
Usable    CPUs 0-7; affinity mask 0-7; no CPU quota
Workers   8 workers: 8 of 8 PUs usable, no CPU quota; pinned
     0   10   12   20   20
     1   12   10   20   20
     2   20   20   10   12
     3   20   20   12   10
{"workers":[
{"index":0,"pu":0,"osPU":0,"core":0,"l3":-1,"node":0,"kind":0,"steal":[[1],[2,3],[4,5,6,7]]},
{"index":1,"pu":1,"osPU":1,"core":1,"l3":-1,"node":0,"kind":0,"steal":[[0],[2,3],[4,5,6,7]]},
{"index":2,"pu":2,"osPU":2,"core":2,"l3":-1,"node":1,"kind":0,"steal":[[3],[0,1],[4,5,6,7]]},
{"index":3,"pu":3,"osPU":3,"core":3,"l3":-1,"node":1,"kind":0,"steal":[[2],[0,1],[4,5,6,7]]},
{"index":4,"pu":4,"osPU":4,"core":4,"l3":-1,"node":2,"kind":0,"steal":[[5],[6,7],[0,1,2,3]]},
{"index":5,"pu":5,"osPU":5,"core":5,"l3":-1,"node":2,"kind":0,"steal":[[4],[6,7],[0,1,2,3]]},
{"index":6,"pu":6,"osPU":6,"core":6,"l3":-1,"node":3,"kind":0,"steal":[[7],[4,5],[0,1,2,3]]},
{"index":7,"pu":7,"osPU":7,"core":7,"l3":-1,"node":3,"kind":0,"steal":[[6],[4,5],[0,1,2,3]]}
]}
status 0'
    cat >$folder/root/cases <<'END'
proof whole --nodes 0:0-1,1:2-3,2:4-5,3:6-7 --distances 10.12.20.20/12.10.20.20/20.20.10.12/20.20.12.10 \
    --like 'pack:2 group:2 numa:1 core:2 pu:1' --steals near
draw
proof sandboxed --sandboxed
END
}

# As before, but the two hardware threads of a node are of one core. The cpuset takes a node away; then memory only; then all
# memory of the nodes that workers are on.
part() {
    shape=sockets=2,cores=2,threads=2
    expected="part 42 0
remote 12 0
strange 5 0"
    drawn='Machine   this machine: 6 PUs, 3 cores, 2 packages, 3 NUMA nodes
Usable    CPUs 2-7; affinity mask 2-7; outside the cpuset 0-1; no CPU quota
Workers   6 workers: 6 of 8 PUs usable, no CPU quota; pinned
     0   10   20   20
     1   20   10   12
     2   20   12   10
{"workers":[
{"index":0,"pu":0,"osPU":2,"core":0,"l3":-1,"node":0,"kind":0,"steal":[[3],[1,2,4,5]]},
{"index":1,"pu":2,"osPU":4,"core":1,"l3":-1,"node":1,"kind":0,"steal":[[4],[2,5],[0,3]]},
{"index":2,"pu":4,"osPU":6,"core":2,"l3":-1,"node":2,"kind":0,"steal":[[5],[1,4],[0,3]]},
{"index":3,"pu":1,"osPU":3,"core":0,"l3":-1,"node":0,"kind":0,"steal":[[0],[1,2,4,5]]},
{"index":4,"pu":3,"osPU":5,"core":1,"l3":-1,"node":1,"kind":0,"steal":[[1],[2,5],[0,3]]},
{"index":5,"pu":5,"osPU":7,"core":2,"l3":-1,"node":2,"kind":0,"steal":[[2],[1,4],[0,3]]}
]}
status 0'
    cat >$folder/root/cases <<'END'
echo +cpuset >/cgroup/cgroup.subtree_control
allow 2-7 1-3
echo $$ >/cgroup/part/cgroup.procs
proof part --nodes 1:2-3,2:4-5,3:6-7 --distances 10.20.20/20.10.12/20.12.10 --steals local
draw
allow 2-5 1
proof remote --memory-on 1
allow 2-5 0,3
proof strange --strange
END
}

pack() { # NAME
    {
        prelude
        cat $folder/root/cases
        epilogue
    } >$folder/root/init
    chmod +x $folder/root/init
    (cd $folder/root && find . | cpio -o -H newc --quiet) >$folder/initrd
}

has_begun() { # NAME
    grep -q '^guest: began' $folder/"$1".log
}

# Runs a guest to its end; says how it ended if that was not by itself.
boot() { # NAME
    local log=$folder/$1.log console=$folder/$1.console numa=() node kernel second status=0
    local boot_limit=${NUMA_BOOT_SECONDS:-240} limit=${NUMA_SECONDS:-900}
    for node in 0 1 2 3; do
        numa+=(-object "memory-backend-ram,id=m$node,size=384M")
        numa+=(-numa "node,nodeid=$node,cpus=$((2 * node))-$((2 * node + 1)),memdev=m$node")
    done
    numa+=(-numa dist,src=0,dst=1,val=12 -numa dist,src=2,dst=3,val=12)
    for node in 2 3; do
        numa+=(-numa "dist,src=0,dst=$node,val=20" -numa "dist,src=1,dst=$node,val=20")
    done
    # Without automatic balancing, which moves pages to where they are used: what is seen is what was asked for. And without
    # what takes a slow machine for a broken one: watchdogs, and the check of the timer, which ends in a panic.
    kernel="console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off numa_balancing=disable"
    kernel+=" no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
    : >"$log"
    : >"$console"
    qemu-system-x86_64 -accel tcg,thread=multi -cpu max,vendor=GenuineIntel,l3-cache=off -smp "8,$shape" -m 1536 "${numa[@]}" \
        -nodefaults -no-reboot -display none -serial "file:$console" -serial "file:$log" \
        -kernel "${NUMA_KERNEL:-$folder/vmlinuz}" -initrd $folder/initrd -append "$kernel" \
        </dev/null >$folder/"$1".qemu 2>&1 &
    guest=$!
    for ((second = 0; ; second++)); do
        if ! kill -0 $guest 2>/dev/null; then break; fi
        if [ $second -ge "$boot_limit" ] && ! has_begun "$1"; then
            echo "$1: not booted after $boot_limit s"
            kill -KILL $guest
            break
        fi
        if [ $second -ge $((boot_limit + limit)) ]; then
            echo "$1: not done after $second s"
            kill -KILL $guest
            break
        fi
        sleep 1
    done
    wait $guest 2>/dev/null || status=$?
    guest=
    if [ $status -ne 0 ]; then echo "$1: qemu ended with status $status" && cat $folder/"$1".qemu; fi
}

# Runs a guest, again if it did not come to its programs.
run_guest() { # NAME
    local attempt
    for attempt in 1 2 3; do
        boot "$1"
        # Lines of terminals end in CR LF.
        sed -i 's/\r//g' $folder/"$1".log
        if has_begun "$1"; then return; fi
        echo "$1: the guest did not come to its programs (attempt $attempt); the end of what it said:"
        cat $folder/"$1".log
        tail -n 15 $folder/"$1".console | tr -d '\r'
    done
}

failures=()
complain() {
    echo "FAILED $*"
    failures+=("$1")
}

# Every assertion came and held, and there are as many as there should be.
check() { # NAME
    local log=$folder/$1.log name count warnings good line
    if ! grep -qx 'guest: done' "$log"; then complain "$1: the guest did not come to its end; the last that it said:" && tail -n 15 "$log"; fi
    while read -r name count warnings; do
        good=$(grep -c "^$name: ok " "$log" || true)
        grep -E "^$name: stderr" "$log" || true
        while read -r line; do complain "$1: $line"; done < <(grep "^$name: FAILED" "$log" || true)
        if [ "$good" -ne "$count" ]; then complain "$1: $name: $good of $count assertions hold"; fi
        if ! grep -qx "$name: numa-proof: $count assertions, 0 failed" "$log"; then complain "$1: $name: not all assertions came"; fi
        if ! grep -qx "$name: status 0" "$log"; then complain "$1: $name: $(grep "^$name: status" "$log" || echo no status)"; fi
        if ! grep -qx "$name: warnings $warnings" "$log"; then
            complain "$1: $name: $(grep "^$name: warnings" "$log" || echo no warnings), not $warnings"
        fi
        echo "$1: $name: $good of $count assertions hold"
    done <<<"$expected"
    local told
    # Each worker on a line of its own.
    told=$(sed -n 's/^drawn: //p' "$log" | sed 's/{"index"/\n&/g; s/]}$/\n&/')
    if [ "$told" != "$drawn" ]; then
        complain "$1: the picture and the plan are not as expected:"
        diff <(echo "$drawn") <(echo "$told") || true
    else
        echo "$1: the picture and the plan are as expected"
    fi
}

guest=
trap 'if [ -n "$guest" ]; then kill -KILL $guest; fi' EXIT
build
echo "test-numa: built in ${SECONDS}s"
if [ -z "${NUMA_KERNEL:-}" ]; then fetch_kernel; fi
make_root
for name in "$@"; do
    SECONDS=0
    "$name"
    pack "$name"
    run_guest "$name"
    if has_begun "$name"; then check "$name"; else complain "$name: the guest did not boot"; fi
    echo "$name: ran in ${SECONDS}s"
done
# Once more, for those who see the end only.
if [ ${#failures[@]} -gt 0 ]; then printf 'FAILED %s\n' "${failures[@]}"; fi
echo "test-numa: ${#failures[@]} failed"
[ ${#failures[@]} -eq 0 ]
