// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Supervision
import Testing

@testable import Fort

/// A control group of version 2 in which this process may make others that have limits on memory.
private enum GroupPlace {
    static let path: String? = {
        let tree = FileTree()
        guard let cgroup = tree.text(at: "/proc/self/cgroup"), let mounts = tree.text(at: "/proc/self/mountinfo") else {
            return nil
        }
        let groups = CgroupHierarchy(cgroup: cgroup, mountinfo: mounts).directories.filter { $0.version == .v2 }
        return groups.map(\.path).reversed().first { place in
            let probe = "\(place)/bastion-probe-\(getpid())"
            guard mkdir(probe, 0o755) == 0 else { return false }
            defer { rmdir(probe) }
            return access("\(probe)/memory.high", W_OK) == 0
        }
    }()

    /// A group with these limits.
    static func make(_ limits: [String: String]) -> String? {
        guard let path else { return nil }
        let group = "\(path)/bastion-test-\(getpid())"
        guard mkdir(group, 0o755) == 0 else { return nil }
        for (file, text) in limits { put(text, "\(group)/\(file)") }
        return group
    }

    /// Moves this process into a group of its own with these limits.
    static func enter(_ limits: [String: String]) -> String? {
        guard let group = make(limits) else { return nil }
        put("\(getpid())", "\(group)/cgroup.procs")
        return group
    }

    private static func put(_ text: String, _ file: String) {
        let descriptor = open(file, O_WRONLY | O_CLOEXEC)
        if descriptor < 0 { return report("no \(file): \(errno)") }
        if text.withCString({ write(descriptor, $0, strlen($0)) }) < 0 {
            report("\(file) does not take \(text): \(errno)")
        }
        close(descriptor)
    }
}

/// A program whose control group has a limit that it comes to; skipped where no such group can be made.
@Suite struct MemoryLimitTests {
    struct Greedy: FortProgram {
        func run(in context: Context) async throws {
            let events = Fort.events()
            var blocks: [UnsafeMutableRawPointer] = []
            // Ends: at the limit, or long after it.
            while Fort.memoryPressureLevel < .critical, blocks.count < 400 {
                let block = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
                memset(block, 1, 1 << 20)
                blocks.append(block)
                await context.yield()
            }
            for block in blocks { block.deallocate() }
            for await case .memoryPressure(let pressure) in events where pressure.level == .critical {
                report("\(pressure.level) of \((pressure.limitBytes ?? 0) >> 20) MiB")
                break
            }
            // With what was given back it is over, some time later.
            for await case .memoryPressure(let pressure) in events where pressure.level == .none {
                report("\(pressure.level)")
                break
            }
        }
    }

    @Test(.enabled(if: GroupPlace.path != nil, "no control group with limits on memory can be made here"))
    func aProgramAtItsLimitIsTold() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            let limits = ["memory.high": "\(64 << 20)", "memory.max": "\(512 << 20)"]
            guard let group = GroupPlace.enter(limits) else { return report("no group: \(errno)") }
            report(group)
            Greedy.main()
        }
        let lines = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self).split(separator: "\n")
        #expect(lines.dropFirst() == ["critical of 64 MiB", "none"])
        if let group = lines.first { rmdir(String(group)) }
    }

    @Test(.enabled(if: GroupPlace.path != nil, "no control group with limits on memory can be made here"))
    func aGuardedProgramThatIsKilledForWantOfMemoryComesBackAndKnowsWhy() async throws {
        let group = try #require(GroupPlace.make(["memory.max": "\(192 << 20)"]))
        defer { rmdir(group) }
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        // At the limit an executor may be slow.
        let fixture = try FixtureProcess(
            ["BASTION_REPORT_DIRECTORY": directory, "BASTION_HANG_TIME": "never"],
            launcher: ["/bin/sh", "-c", "echo $$ >\(group)/cgroup.procs && exec \"$0\""]
        )
        let (port, first) = try await fixture.serving()
        #expect(await ask(port, "devour") == .closed)
        let lines = try await fixture.lines(
            containing: "guard: the program (\(first)) ",
            "serving \(port) ",
            "fort-fixture (\(first)) was killed for want of memory; report: "
        )
        let restart = try #require(lines.first { $0.contains("guard: the program") })
        #expect(restart.contains("was killed as memory ran out") && restart.contains("starting it again"), "\(restart)")
        #expect(await ask(port, "predecessor") == .line("\(first) was killed for want of memory"))
        let report = try #require(reports(in: directory).first)
        #expect(report.contains(#""cause":"outOfMemory""#), "\(report)")
        // Who is killed by hand is not taken for that.
        let second = try #require(await ask(port, "pid").pid)
        kill(second, SIGKILL)
        _ = try await fixture.line(containing: "guard: the program (\(second)) was ended by signal 9")
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
        // The group is empty then.
        _ = await fixture.rest()
    }
}
