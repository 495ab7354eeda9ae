// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor

@Suite struct TopologyQuotaTests {
    @Test(arguments: [
        ("250000 100000\n", 3), ("200000 100000", 2), ("1000 100000", 1), ("100000 100000", 1), ("100001 100000", 2),
        ("6400000 100000", 64), ("50000", 1), ("350000", 4), ("9223372036854775807 1", Int.max),
    ])
    func cpuMaxIsRoundedUpToWorkers(text: String, workers: Int) {
        #expect(CPUQuota(cpuMax: text)?.workerLimit == workers)
    }

    @Test(arguments: [
        "max 100000\n", "max", "", "\n", "0 100000", "-1 100000", "100000 0", "100000 -5", "many few", "1 2 3",
        "9223372036854775808 100000", "2.5 1", "0x10 100000",
    ])
    func cpuMaxWithoutALimitIsNone(text: String) { #expect(CPUQuota(cpuMax: text) == nil) }

    @Test(arguments: [
        ("250000\n", "100000\n", Int?.some(3)), ("-1\n", "100000\n", nil), ("0", "100000", nil), ("100000", "", nil),
        ("", "100000", nil), ("100000", "100000 7", nil), ("50000", "25000", 2), ("x", "100000", nil),
    ])
    func cfsQuotaIsRoundedUpToWorkers(quota: String, period: String, workers: Int?) {
        #expect(CPUQuota(cfsQuota: quota, cfsPeriod: period)?.workerLimit == workers)
    }

    @Test func smallestQuotaWins() throws {
        let quotas = ["400000 100000", "50000 20000", "300000 100000"].compactMap { CPUQuota(cpuMax: $0) }
        #expect(CPUQuota.tightest(quotas)?.cpus == 2.5)
        #expect(CPUQuota.tightest([]) == nil)
    }

    private static let v2Mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    private static let v1Mount =
        "35 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        + "36 30 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory\n"

    struct Layout: CustomTestStringConvertible {
        let testDescription: String
        let cgroup: String
        let mountinfo: String
        let expected: [String]
    }

    static let layouts = [
        Layout(
            testDescription: "v2, nested group: up to the mount point",
            cgroup: "0::/system.slice/shop.service\n",
            mountinfo: v2Mount,
            expected: ["/sys/fs/cgroup/system.slice/shop.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"]
        ),
        Layout(
            testDescription: "v2 in a container with a cgroup namespace",
            cgroup: "0::/\n",
            mountinfo: v2Mount,
            expected: ["/sys/fs/cgroup"]
        ),
        Layout(
            testDescription: "v2, group outside of the namespace: only the mount point is visible",
            cgroup: "0::/../other\n",
            mountinfo: v2Mount,
            expected: ["/sys/fs/cgroup"]
        ),
        Layout(
            testDescription: "v1 with joined controllers; memory does not count",
            cgroup: "5:memory:/m\n4:cpu,cpuacct:/a/b\n",
            mountinfo: v1Mount,
            expected: ["/sys/fs/cgroup/cpu,cpuacct/a/b", "/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/cpu,cpuacct"]
        ),
        Layout(
            testDescription: "v1 in a container without a namespace: the mount shows only the container's group",
            cgroup: "4:cpu:/docker/abc\n",
            mountinfo: "40 39 0:31 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
            expected: ["/sys/fs/cgroup/cpu"]
        ),
        Layout(
            testDescription: "v1, a group below the container's own",
            cgroup: "4:cpu:/docker/abc/inner\n",
            mountinfo: "40 39 0:31 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
            expected: ["/sys/fs/cgroup/cpu/inner", "/sys/fs/cgroup/cpu"]
        ),
        Layout(
            testDescription: "a mount of a group with a like name is not ours, but all there is",
            cgroup: "4:cpu:/docker/abcdef\n",
            mountinfo: "40 39 0:31 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
            expected: ["/sys/fs/cgroup/cpu"]
        ),
        Layout(
            testDescription: "hybrid: both hierarchies count",
            cgroup: "2:cpu:/x\n0::/y\n",
            mountinfo: "1 2 0:1 / /c/cpu rw - cgroup cgroup rw,cpu\n3 2 0:2 / /c/unified rw - cgroup2 cgroup2 rw\n",
            expected: ["/c/cpu/x", "/c/cpu", "/c/unified/y", "/c/unified"]
        ),
        Layout(
            testDescription: "cpuset and cpuacct alone do not limit CPU time",
            cgroup: "3:cpuset:/x\n2:cpuacct:/x\n",
            mountinfo: "1 2 0:1 / /c/cpuset rw - cgroup cgroup rw,cpuset\n",
            expected: []
        ),
        Layout(
            testDescription: "escaped mount point, colon in the group's name",
            cgroup: "0::/a:b\n",
            mountinfo: "3 2 0:2 / /my\\040groups rw - cgroup2 cgroup2 rw\n",
            expected: ["/my groups/a:b", "/my groups"]
        ),
        Layout(testDescription: "no mount", cgroup: "0::/a\n", mountinfo: "", expected: []),
        Layout(testDescription: "nonsense", cgroup: "a\n1:2\n::\n", mountinfo: "- - -\n\\\n1 2 3\n", expected: []),
    ]

    @Test(arguments: layouts)
    func limitsAreSearchedFromTheGroupUpwards(layout: Layout) {
        let hierarchy = CgroupHierarchy(cgroup: layout.cgroup, mountinfo: layout.mountinfo)
        #expect(hierarchy.directories.map(\.path) == layout.expected)
    }

    @Test func containerOfTwoAndAHalfCPUsGetsThreeWorkers() throws {
        try withTemporaryDirectory { root in
            write("0::/pod/server\n", to: "proc/self/cgroup", in: root)
            write(Self.v2Mount, to: "proc/self/mountinfo", in: root)
            write("max 100000\n", to: "sys/fs/cgroup/pod/server/cpu.max", in: root)
            write("250000 100000\n", to: "sys/fs/cgroup/pod/cpu.max", in: root)
            let quota = try #require(CPUQuota.aroundThisProcess(FileTree(root: root)))
            #expect(quota.source == "/sys/fs/cgroup/pod/cpu.max")
            let machine = try Topology(synthetic: "pack:2 core:16 pu:2").changed(quota: quota, origin: .thisMachine)
            let plan = try Placement(machine)
            #expect(plan.seats.count == 3)
            #expect(!plan.pinsWorkers, "pinned, all containers of the host would crowd on its first cores")
            #expect(plan.explanation.contains("quota of 2.5 CPUs"))
        }
    }

    @Test func innerQuotaBelowAWiderOuterOneWins() throws {
        try withTemporaryDirectory { root in
            write("4:cpu,cpuacct:/a/b\n", to: "proc/self/cgroup", in: root)
            write(Self.v1Mount, to: "proc/self/mountinfo", in: root)
            let group = "sys/fs/cgroup/cpu,cpuacct"
            write("100000\n", to: "\(group)/a/b/cpu.cfs_quota_us", in: root)
            write("100000\n", to: "\(group)/a/b/cpu.cfs_period_us", in: root)
            write("400000\n", to: "\(group)/a/cpu.cfs_quota_us", in: root)
            write("100000\n", to: "\(group)/a/cpu.cfs_period_us", in: root)
            write("-1\n", to: "\(group)/cpu.cfs_quota_us", in: root)
            write("100000\n", to: "\(group)/cpu.cfs_period_us", in: root)
            #expect(CPUQuota.aroundThisProcess(FileTree(root: root))?.workerLimit == 1)
        }
    }

    @Test func withoutProcThereIsNoQuota() throws {
        try withTemporaryDirectory { root in #expect(CPUQuota.aroundThisProcess(FileTree(root: root)) == nil) }
    }

    @Test(arguments: [
        ("0-3,8,10-11\n", [0, 1, 2, 3, 8, 10, 11], "0-3,8,10-11"), ("0", [0], "0"), ("", [], "none"),
        ("5,3-4", [3, 4, 5], "3-5"), ("1023-1025", [1023, 1024, 1025], "1023-1025"),
    ])
    func cpuListsAreReadAndWritten(text: String, cpus: [Int], canonical: String) {
        #expect(CPUList.parse(text) == cpus)
        #expect(CPUList.format(cpus) == canonical)
    }

    @Test(arguments: ["a", "1-", "-1", "3-1", "1-2-3", "0-99999999999", "1 2", "0-3x"])
    func brokenCPUListsAreRefused(text: String) { #expect(CPUList.parse(text) == nil) }
}
