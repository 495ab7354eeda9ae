// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// For which node it is what a thread submits that is no worker, and where blocking work of a node runs: on machines with
/// several nodes that are made up.
@Suite(.serialized) struct SubmitterNodeTests {
    private static let usable = (try? AffinityMask.ofProcess().cpus) ?? []

    private func nodes(_ machine: Topology, workers: Int) throws -> [Int] {
        let plan = NodePlan(try Placement(machine, options: .init(workerCount: workers, pinning: .never)))
        #expect(plan.nodeOfPU.count == machine.processors.count)
        return machine.processors.compactMap { plan.nodeOfPU[$0.osIndex] }
    }

    @Test func unitsWithoutAWorkerBelongToTheirNode() throws {
        let machine = try Topology(synthetic: "pack:2 numa:2 core:2 pu:2")
        #expect(try nodes(machine, workers: 8) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
        // One worker on the third node, none on the fourth: that is nearest to its package's other one.
        #expect(try nodes(machine, workers: 5) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2])
        #expect(try nodes(machine, workers: 3) == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
        #expect(try nodes(Topology(synthetic: "core:2 pu:2"), workers: 1) == [0, 0, 0, 0])
    }

    @Test func unitsOfANodeWithoutWorkersBelongToTheNearestByDistance() throws {
        let machine = try Topology(synthetic: "pack:3 numa:1 core:2 pu:1").changed(
            distances: [[10, 40, 20], [40, 10, 15], [20, 15, 10]]
        )
        #expect(try nodes(machine, workers: 4) == [0, 0, 1, 1, 1, 1])
    }

    /// Runs a closure on a thread of its own, on one processing unit.
    private func onUnit(_ osPU: Int, _ body: @escaping @Sendable () -> Void) {
        PlainThread(name: "submitter") {
            do { try ThreadPlacement.pin(toOSPU: osPU) } catch { Issue.record(error) }
            body()
        }.join()
    }

    /// Each node has two units; on one of the second node's there is no worker, but the thread that submits.
    @Test(.enabled(if: usable.count > 1)) func whatComesFromAUnitWithoutAWorkerIsForItsNode() async throws {
        let unit = Self.usable[1]
        let machine = try Topology(
            synthetic: "numa:2 core:1 pu:2(indexes=\(unit - 1),\(unit + 1),\(unit),\(unit + 2))"
        ).changed(allowed: [0, 1, 3])
        let pool = try WorkerPool(
            placement: Placement(machine, options: .init(workerCount: 2, pinning: .never)),
            stallThreshold: nil
        )
        #expect(pool.placement.seats.map(\.osPU) == [unit - 1, unit + 2])
        let (arrived, goOn) = (Rendezvous(2), BlockingGate())
        for _ in 0..<2 {
            LightProc.reactive(Doer(), on: pool).tell { _ in
                arrived.arrive()
                goOn.blockingWait()
            }
        }
        arrived.everybody.blockingWait()
        let blockersNode = Locked(-1)
        onUnit(unit) {
            LightProc.reactive(Doer(), on: pool).tell { _ in }
            let done = BlockingGate()
            pool.spawnBlocking {
                blockersNode.withLock { $0 = WorkerThread.current?.seat ?? -1 }
                done.open()
            }
            done.blockingWait()
        }
        #expect(pool.nodes.map(\.count) == [0, 1])
        #expect(blockersNode.withLock { $0 } == 1)
        goOn.open()
        await pool.shutDownElsewhere()
    }

    /// Two nodes of one unit each.
    @Test(.enabled(if: usable.count > 1)) func blockingWorkRunsOnTheUnitsOfTheNodeThatItIsFor() async throws {
        let units = Array(Self.usable.prefix(2))
        let machine = try Topology(synthetic: "numa:2 core:1 pu:1(indexes=\(units[0]),\(units[1]))")
        let pool = WorkerPool(
            placement: try Placement(machine, options: .init(pinning: .always)),
            stallThreshold: nil,
            placesMemory: false
        )
        let seen = Locked<[Int: [Int]]>([:])
        let done = Rendezvous(2)
        for index in 0..<2 {
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.move(to: ProcTag.home(ofWorker: index))
            // Ends: it lies down.
            while !pool.workers[index].isParked { sched_yield() }
            proc.tell { _ in
                let node = pool.queues.withOwnWorker { $0?.node } ?? -1
                let own = try ThreadPlacement.affinity()
                // A new thread begins where the one that makes it may run.
                try ThreadPlacement.restrict(toOSPUs: units)
                defer { try? ThreadPlacement.restrict(toOSPUs: own) }
                pool.spawnBlocking {
                    let affinity = try ThreadPlacement.affinity()
                    #expect(affinity == own)
                    seen.withLock { $0[node] = affinity }
                    done.arrive()
                }
            }
        }
        done.everybody.blockingWait()
        #expect(seen.withLock { $0 } == [0: [units[0]], 1: [units[1]]])
        await pool.shutDownElsewhere()
    }
}
