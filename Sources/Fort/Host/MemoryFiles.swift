// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor

/// The files that tell of the program's memory: of its control group (v2) and those around it, and of the whole machine.
struct MemoryFiles: Sendable {
    private let tree: FileTree
    /// Directories of groups that memory is counted for, innermost first.
    let groups: [String]
    /// Where waiting for memory is told; nil: nowhere.
    let pressure: String?

    /// Looks which there are.
    ///
    /// - Parameter tree: The machine's files, or a tree made up for a test.
    init(_ tree: FileTree) {
        self.tree = tree
        var hierarchy: [String] = []
        if let cgroup = tree.text(at: "/proc/self/cgroup"), let mounts = tree.text(at: "/proc/self/mountinfo") {
            let all = CgroupHierarchy(cgroup: cgroup, mountinfo: mounts).directories
            hierarchy = all.filter { $0.version == .v2 }.map(\.path)
        }
        // The root of the hierarchy counts none, nor do groups for which the controller is not switched on.
        groups = hierarchy.filter { tree.text(at: "\($0)/memory.current") != nil }
        let candidates = (groups.first ?? hierarchy.first).map { ["\($0)/memory.pressure"] } ?? []
        // Where PSI is switched off the files are there, and cannot be read.
        pressure = (candidates + ["/proc/pressure/memory"]).first {
            tree.text(at: $0).flatMap(StallFigures.init) != nil
        }
    }

    /// Files that tell when they change: counts of events.
    var eventFiles: [String] { groups.map { path(of: events(of: $0)) } }

    /// A group's file counts what is below it too; of those around the program's own only what is theirs is meant, nothing of its siblings.
    private func events(of group: String) -> String {
        group == groups.first ? "\(group)/memory.events" : "\(group)/memory.events.local"
    }

    /// Where to find a file of the tree.
    func path(of file: String) -> String { tree.root == "/" ? file : tree.root + file }

    /// Whether one of the groups has a limit.
    func hasLimits() -> Bool {
        groups.contains { number("\($0)/memory.max") != nil || number("\($0)/memory.high") != nil }
    }

    /// Reads five small files a group.
    func read() -> MemoryReading {
        var reading = MemoryReading()
        reading.stall = pressure.flatMap { tree.text(at: $0) }.flatMap(StallFigures.init)
        var tightest = -1.0
        for group in groups {
            let (high, max) = (number("\(group)/memory.high"), number("\(group)/memory.max"))
            if let events = tree.text(at: events(of: group)) {
                reading.events = reading.events &+ MemoryEventCounts(events)
            }
            guard let limit = [high, max].compactMap(\.self).min(), let used = used(in: group) else { continue }
            func share(of limit: Int) -> Double { Double(used) / Double(Swift.max(limit, 1)) }
            if let high { reading.shareOfHigh = Swift.max(reading.shareOfHigh ?? 0, share(of: high)) }
            if let max { reading.shareOfMax = Swift.max(reading.shareOfMax ?? 0, share(of: max)) }
            if share(of: limit) > tightest {
                tightest = share(of: limit)
                (reading.used, reading.limit) = (used, limit)
            }
        }
        return reading
    }

    /// What is in use without file contents that were not used lately: the kernel drops those before anything else.
    private func used(in group: String) -> Int? {
        guard let current = number("\(group)/memory.current") else { return nil }
        var droppable = 0
        for line in tree.text(at: "\(group)/memory.stat")?.split(separator: "\n") ?? []
        where line.hasPrefix("inactive_file ") {
            droppable = Int(line.dropFirst(14)) ?? 0
        }
        return Swift.max(current - Swift.max(droppable, 0), 0)
    }

    /// Nil for `max`, and where there is none.
    private func number(_ file: String) -> Int? {
        guard let text = tree.text(at: file) else { return nil }
        return text.split(whereSeparator: \.isWhitespace).first.flatMap { Int($0) }
    }
}
