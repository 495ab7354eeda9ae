// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

extension Topology {
    /// Reads the machine that the process runs on, and what the process may use of it.
    ///
    /// Where hwloc cannot read the machine, the result knows only the affinity mask and says so in `warnings`.
    /// The mask is that of the main thread, so that calling this from a pinned thread does no harm.
    /// hwloc may move the calling thread over the CPUs for a moment. Costs some milliseconds: call it once.
    /// - Throws: `affinityUnknown` if the kernel hides the affinity mask, which only a sandbox does.
    public static func current() throws(TopologyError) -> Topology {
        try current(files: FileTree(), affinity: AffinityMask.ofProcess().cpus) { () throws(TopologyError) in
            try HwlocMachine(.thisMachine)
        }
    }

    /// `current()` with its three views of the world replaced, for tests.
    static func current(
        files: FileTree,
        affinity: [Int],
        load: () throws(TopologyError) -> HwlocMachine
    ) throws(TopologyError) -> Topology {
        guard !affinity.isEmpty else {
            throw TopologyError(
                .affinityUnknown,
                "the affinity mask of this process is empty; check it with 'taskset -p'"
            )
        }
        let quota = CPUQuota.aroundThisProcess(files)
        do throws(TopologyError) {
            let machine = try load()
            guard machine.isThisSystem else {
                throw TopologyError(
                    .hwlocFailed,
                    "HWLOC_* environment variables describe another machine; unset them, or set HWLOC_THISSYSTEM=1"
                )
            }
            let reading = TopologyReading(machine, affinity: Set(affinity))
            guard reading.processors.contains(where: \.isAllowed) else {
                throw TopologyError(
                    .hwlocFailed,
                    "hwloc sees none of the processors in the affinity mask (is /sys readable?)"
                )
            }
            var warnings = reading.warnings
            let unknown = Set(affinity).subtracting(reading.processors.map(\.osIndex)).sorted()
            if !unknown.isEmpty {
                warnings.append(
                    "hwloc does not describe CPUs \(CPUList.format(unknown)) of the affinity mask; they get no worker"
                )
            }
            let online = files.text(at: "/sys/devices/system/cpu/online").flatMap { CPUList.parse($0) }
            let offline = online.map { online in reading.excluded.filter { !online.contains($0) } } ?? []
            return Topology(
                reading,
                origin: .thisMachine,
                allowance: Allowance(excluded: reading.excluded, offline: offline, affinity: affinity, quota: quota),
                warnings: warnings
            )
        } catch {
            return Topology(affinity: affinity, quota: quota, reason: error.description)
        }
    }

    /// Reads the hwloc XML file of some machine, as `lstopo FILE.xml` writes it.
    ///
    /// All PUs of the file that are online and in its cpuset are usable; neither this process's affinity nor its quota counts.
    /// - Throws: `unreadableFile` if it cannot be read, `invalidXML` if it is no sound hwloc XML.
    public init(xmlFile path: String) throws(TopologyError) {
        let bytes = try FileTree.bytes(ofFile: path, limit: 1 << 26)
        try self.init(xml: bytes, name: path)
    }

    /// Reads hwloc XML from memory.
    package init(xml bytes: [UInt8], name: String) throws(TopologyError) {
        do throws(TopologyError) {
            try self.init(describing: .xml(HwlocDocument(bytes).text), origin: .file(name))
        } catch {
            throw TopologyError(
                error.code,
                "'\(name)' is no topology that hwloc can read: \(error.description)",
                errno: error.errno
            )
        }
    }

    /// Makes up a machine from hwloc's synthetic notation, such as `pack:2 numa:1 l3:2 core:4 pu:2`.
    ///
    /// - Throws: `invalidSynthetic` if hwloc does not accept it or it describes more than 65,536 objects of a type.
    public init(synthetic description: String) throws(TopologyError) {
        try SyntheticDescription.check(description)
        try self.init(describing: .synthetic(description), origin: .synthetic(description))
    }

    private init(describing source: HwlocMachine.Source, origin: Origin) throws(TopologyError) {
        let machine = try HwlocMachine(source)
        let reading = TopologyReading(machine, affinity: nil)
        guard reading.processors.contains(where: \.isAllowed) else {
            throw TopologyError(.noUsableProcessor, "it has no usable processor; describe at least one PU")
        }
        self.init(
            reading,
            origin: origin,
            allowance: Allowance(excluded: reading.excluded, offline: [], affinity: nil, quota: nil),
            warnings: reading.warnings
        )
    }

    private init(_ reading: TopologyReading, origin: Origin, allowance: Allowance, warnings: [String]) {
        self.init(
            origin: origin,
            packages: reading.packages,
            nodes: reading.nodes,
            caches: reading.caches,
            cores: reading.cores,
            kinds: reading.kinds,
            processors: reading.processors,
            allowance: allowance,
            warnings: warnings
        )
    }

    /// Makes the topology of which only the affinity mask is known: PUs without any relation to each other.
    package init(affinity: [Int], quota: CPUQuota?, reason: String) {
        let processors = affinity.sorted().enumerated().map { index, cpu in
            Processor(
                index: index,
                osIndex: cpu,
                package: nil,
                core: nil,
                l2: nil,
                l3: nil,
                node: nil,
                kind: 0,
                isAllowed: true,
                ancestors: []
            )
        }
        self.init(
            origin: .affinityMask,
            packages: [],
            nodes: [],
            caches: [],
            cores: [],
            kinds: [],
            processors: processors,
            allowance: Allowance(excluded: [], offline: [], affinity: affinity, quota: quota),
            warnings: ["the machine's caches and nodes are unknown, only the affinity mask is used: \(reason)"]
        )
    }
}

extension CPUQuota {
    /// Finds the tightest quota of the control groups around the process, or `nil` where there is none.
    package static func aroundThisProcess(_ files: FileTree) -> CPUQuota? {
        guard let groups = files.text(at: "/proc/self/cgroup"), let mounts = files.text(at: "/proc/self/mountinfo")
        else { return nil }
        let directories = CgroupHierarchy(cgroup: groups, mountinfo: mounts).directories
        return tightest(
            directories.compactMap { directory in
                switch directory.version {
                case .v2:
                    let path = directory.path + "/cpu.max"
                    return files.text(at: path).flatMap { CPUQuota(cpuMax: $0, source: path) }
                case .v1:
                    let path = directory.path + "/cpu.cfs_quota_us"
                    guard let quota = files.text(at: path),
                        let period = files.text(at: directory.path + "/cpu.cfs_period_us")
                    else { return nil }
                    return CPUQuota(cfsQuota: quota, cfsPeriod: period, source: path)
                }
            }
        )
    }
}
