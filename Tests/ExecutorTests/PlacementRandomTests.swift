// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor

/// Random regular machines against a model that only does arithmetic on PU numbers.
@Suite struct PlacementRandomTests {
    /// A machine whose PU numbers tell all: level sizes from the package down to the PU.
    private struct Shape: CustomStringConvertible {
        let packages, nodes, l3s, l2s, cores, pus: Int

        init(_ random: inout SeededGenerator) {
            func pick(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
            (packages, nodes, l3s, l2s, cores, pus) = (
                pick(1...3), pick(1...2), pick(1...2), pick(1...2), pick(1...3), pick(1...3)
            )
        }

        var description: String { "pack:\(packages) numa:\(nodes) l3:\(l3s) l2:\(l2s) core:\(cores) pu:\(pus)" }
        var count: Int { packages * nodes * l3s * l2s * cores * pus }

        /// Which core, L2, L3, node and package a PU is in.
        func places(_ pu: Int) -> [Int] {
            let core = pu / pus
            let l2 = core / cores
            let l3 = l2 / l2s
            let node = l3 / l3s
            return [core, l2, l3, node, node / nodes]
        }

        /// The number of the innermost level that both are in: smaller is nearer.
        func separation(_ left: Int, _ right: Int) -> Int {
            zip(places(left), places(right)).enumerated().first { $0.element.0 == $0.element.1 }?.offset ?? 5
        }
    }

    @Test func plansOfRandomMachinesFollowTheModel() throws {
        var random = SeededGenerator(seed: RandomRun.seed &+ 2)
        for _ in 0..<(12 * RandomRun.scale) {
            let shape = Shape(&random)
            let machine = try Topology(synthetic: shape.description)
            expectSound(machine)
            let count = Int.random(in: 1...shape.count, using: &random)
            let plan = try Placement(machine, options: .init(workerCount: count))
            expectValid(plan, of: machine)
            let order = (0..<shape.pus).flatMap { sibling in
                (0..<(shape.count / shape.pus)).map { $0 * shape.pus + sibling }
            }
            #expect(plan.seats.map(\.pu) == Array(order.prefix(count)), "\(shape)")
            for seat in plan.seats {
                #expect([seat.core, seat.l3, seat.node] == [0, 2, 3].map { shape.places(seat.pu)[$0] }, "\(shape)")
                let others = plan.seats.filter { $0.index != seat.index }
                let groups = Dictionary(grouping: others) { shape.separation(seat.pu, $0.pu) }
                let expected = groups.keys.sorted().map { key in groups[key]!.map(\.index) }
                #expect(seat.steal == expected, "\(shape) worker \(seat.index)")
            }
        }
    }

    @Test func plansOfRandomlyRestrictedHybridMachinesAreValid() throws {
        var random = SeededGenerator(seed: RandomRun.seed &+ 3)
        for _ in 0..<(12 * RandomRun.scale) {
            let shape = Shape(&random)
            let whole = try Topology(synthetic: shape.description)
            let allowed = Set((0..<shape.count).filter { _ in Bool.random(using: &random) })
            guard !allowed.isEmpty else { continue }
            let kindOfCore = whole.cores.map { _ in Int.random(in: 0...2, using: &random) }
            let kinds = (0...2).map { kind in
                Topology.CoreKind(
                    index: kind,
                    name: "k\(kind)",
                    rank: [2, 0, 1][kind],
                    processors: whole.processors.filter { kindOfCore[$0.core ?? 0] == kind }.map(\.index)
                )
            }
            let matrix = whole.nodes.map { row in
                whole.nodes.map { column in
                    row.index == column.index ? Int?.some(10) : [nil, 11, 20, 30].randomElement(using: &random)!
                }
            }
            let quota = CPUQuota(
                quotaMicroseconds: Int.random(in: 1...400_000, using: &random),
                periodMicroseconds: Int.random(in: 1...100_000, using: &random)
            )
            let machine = whole.changed(
                allowed: allowed,
                quota: quota,
                kinds: kinds,
                kindOf: { kindOfCore[$0.core ?? 0] },
                distances: matrix
            )
            let plan = try Placement(machine)
            expectValid(plan, of: machine)
            #expect(plan.seats.count == min(allowed.count, quota?.workerLimit ?? .max), "\(shape)")
            expectMonotone(plan, machine)
        }
    }

    /// No worker of a tier is nearer than one of the tier before, by caches, node and matrix.
    private func expectMonotone(_ plan: Placement, _ machine: Topology) {
        func measure(_ thief: Seat, _ victim: Seat) -> [Int] {
            let own = machine.processors[thief.pu]
            let other = machine.processors[victim.pu]
            let sameNode = own.node == other.node
            let level =
                if own.core == other.core { 0 } else if own.l2 == other.l2 { 1 } else if own.l3 == other.l3 {
                    2
                } else if sameNode { 3 } else { 4 }
            let distance = own.node.flatMap { from in other.node.flatMap { machine.nodes[from].distances[$0] } }
            return [level, level < 4 ? 0 : distance ?? .max]
        }
        for seat in plan.seats {
            let measures = seat.steal.map { tier in tier.map { measure(seat, plan.seats[$0]) } }
            for (near, far) in zip(measures, measures.dropFirst()) {
                let ordered = near.allSatisfy { first in far.allSatisfy { !$0.lexicographicallyPrecedes(first) } }
                #expect(ordered)
            }
        }
    }
}
