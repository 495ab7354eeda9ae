// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// A pool says what is worse than it could be.
@Suite struct PoolWarningsTests {
    /// A machine of which only the affinity mask is known.
    private static func blind() throws -> Topology {
        try Topology.current(files: FileTree(), affinity: AffinityMask.ofProcess().cpus) { () throws(TopologyError) in
            throw TopologyError(.hwlocFailed, "hwloc is blind")
        }
    }

    private static let blindWarning =
        "the machine's caches and nodes are unknown, only the affinity mask is used: hwloc is blind"

    @Test func whatIsUnknownOfTheMachineIsTold() async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            let pool = WorkerPool(placement: try Placement(Self.blind(), options: .init(pinning: .never)))
            #expect(pool.warnings == [Self.blindWarning])
            await pool.shutDownElsewhere()
            // Not again.
            pool.start()
            await pool.shutDownElsewhere()
            #expect(pool.warnings == [Self.blindWarning])
        }
        let lines = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self).split(separator: "\n")
        #expect(lines.filter { $0.hasPrefix("bastion:") } == ["bastion: \(Self.blindWarning)"])
    }

    @Test func aRefusedPinIsTold() async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            // No machine of ours has as many.
            let machine = try Topology(synthetic: "core:2 pu:1(indexes=60000,60001)")
            let pool = WorkerPool(placement: try Placement(machine, options: .init(pinning: .always)))
            // Ends: each worker has tried it before it runs anything, and so does the blocking thread.
            while pool.counters.contains(where: { $0.parks == 0 }) { await Task.yield() }
            _ = try await pool.spawnBlocking {}.outcome().get()
            let warnings = pool.warnings
            #expect(warnings.count == 3, "\(warnings)")
            for index in 0..<2 {
                let start = "worker \(index) is not pinned: cannot pin to CPU 6000\(index)"
                #expect(warnings.contains { $0.hasPrefix(start) })
            }
            #expect(warnings.contains { $0.hasPrefix("threads for blocking work are not tied to their node: ") })
            // One line for all; those after a trap are no others.
            #expect(await pool.spawn { Misdeed.index.commit() }.handle.exit().trapReport != nil)
            await pool.shutDownElsewhere()
            #expect(pool.warnings == warnings)
        }
        let lines = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self).split(separator: "\n")
        #expect(lines.count { $0.hasPrefix("bastion: worker ") } == 1, "\(lines)")
        #expect(lines.count { $0.hasPrefix("bastion: ") } == 1, "\(lines)")
    }

    @Test func whoAsksForSilenceGetsIt() async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            let pool = WorkerPool(
                placement: try Placement(Self.blind(), options: .init(pinning: .never)),
                writesWarnings: false
            )
            #expect(pool.warnings == [Self.blindWarning])
            await pool.shutDownElsewhere()
        }
        let lines = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self).split(separator: "\n")
        #expect(lines.allSatisfy { !$0.hasPrefix("bastion:") })
    }

    @Test func aPoolThatHasAllItWantsIsSilent() async throws {
        let pool = try WorkerPool(
            placement: Placement(Topology(synthetic: "core:2 pu:1"), options: .init(pinning: .never))
        )
        #expect(pool.warnings.isEmpty)
        await pool.shutDownElsewhere()
    }
}
