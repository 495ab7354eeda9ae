// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor

/// Machines of unusual shapes, made up here, with plans written by hand.
@Suite struct TopologyShapeTests {
    private func plan(of machine: Topology, sourceLocation: SourceLocation = #_sourceLocation) throws -> Placement {
        expectSound(machine, sourceLocation: sourceLocation)
        let plan = try Placement(machine)
        expectValid(plan, of: machine, sourceLocation: sourceLocation)
        #expect(plan.seats.map(\.pu).sorted() == Array(machine.processors.indices), sourceLocation: sourceLocation)
        return plan
    }

    /// Two cores with two threads and a level 2 cache each, and four cores of another kind that share one.
    private static var hybrid: [MachineXML.Part] {
        let cores: [MachineXML.Part] = [
            .cache(level: 2, [.core(0, [.pu(0), .pu(1)])]), .cache(level: 2, [.core(4, [.pu(2), .pu(3)])]),
            .cache(level: 2, (4..<8).map { .core($0 + 4, [.pu($0)]) }),
        ]
        return [.package(0, [.node(0), .cache(level: 3, cores)])]
    }

    @Test func fastCoresComeBeforeSlowOnesAndThoseBeforeSiblings() throws {
        let kinds = [
            MachineXML.Kind(processors: Array(4..<8), efficiency: 0),
            MachineXML.Kind(processors: Array(0..<4), efficiency: 1),
        ]
        let machine = try MachineXML(parts: Self.hybrid, kinds: kinds).topology()
        #expect(machine.kinds.map(\.name) == ["efficiency", "performance"])
        #expect(machine.cores.map(\.kind) == [1, 1, 0, 0, 0, 0])
        let plan = try plan(of: machine)
        #expect(plan.seats.map(\.osPU) == [0, 2, 4, 5, 6, 7, 1, 3])
        #expect(plan.seats.map(\.kind) == [1, 1, 0, 0, 0, 0, 1, 1])
        #expect(plan.seats.map(\.core) == [0, 1, 2, 3, 4, 5, 0, 1])
        #expect(plan.seats[0].steal == [[6], [1, 2, 3, 4, 5, 7]])
        #expect(plan.seats[3].steal == [[2, 4, 5], [0, 1, 6, 7]])
    }

    @Test func slowCoresThatComeFirstInTheMachineAreSeatedLater() throws {
        let kinds = [
            MachineXML.Kind(processors: Array(0..<4), efficiency: 3, name: "Little"),
            MachineXML.Kind(processors: Array(4..<8), efficiency: 9, name: "Big"),
        ]
        let machine = try MachineXML(parts: Self.hybrid, kinds: kinds).topology()
        #expect(machine.kinds.map(\.name) == ["Little", "Big"])
        #expect(try plan(of: machine).seats.map(\.osPU) == [4, 5, 6, 7, 0, 2, 1, 3])
    }

    @Test func kindsAreNamedByTheMachineOrNumbered() throws {
        let kinds = [
            MachineXML.Kind(processors: [0, 1], efficiency: 0, name: "Small"),
            MachineXML.Kind(processors: [4, 5, 6, 7], efficiency: 5),
            MachineXML.Kind(processors: [2, 3], efficiency: 7, name: "Large"),
        ]
        let machine = try MachineXML(parts: Self.hybrid, kinds: kinds).topology()
        #expect(machine.kinds.map(\.name) == ["Small", "kind-1", "Large"])
        #expect(machine.kinds.map(\.processors) == [[0, 1], [4, 5, 6, 7], [2, 3]])
        #expect(machine.warnings.isEmpty)
        #expect(try plan(of: machine).seats.map(\.osPU) == [2, 4, 5, 6, 7, 0, 3, 1])
    }

    @Test func kindsWithinACoreSeatTheFasterPUFirst() throws {
        let kinds = [
            MachineXML.Kind(processors: [0, 2], efficiency: 0), MachineXML.Kind(processors: [1, 3], efficiency: 1),
        ]
        let parts = [MachineXML.Part.package(0, [.node(0), .core(0, [.pu(0), .pu(1)]), .core(1, [.pu(2), .pu(3)])])]
        let plan = try plan(of: MachineXML(parts: parts, kinds: kinds).topology())
        #expect(plan.seats.map(\.osPU) == [1, 3, 0, 2])
        #expect(plan.seats.map(\.kind) == [1, 1, 0, 0])
    }

    /// Memory of the whole machine beside that of its packages, as that behind a bus is.
    @Test func memoryWithoutProcessorsIsNobodysOwn() throws {
        let parts = [
            MachineXML.Part.node(2, mebibytes: 65536), .package(0, [.node(0), .core(0, [.pu(0)]), .core(1, [.pu(1)])]),
            .package(1, [.node(1), .core(0, [.pu(2)]), .core(1, [.pu(3)])]),
        ]
        let machine = try MachineXML(parts: parts).topology()
        #expect(Set(machine.nodes.map { [$0.osIndex] + $0.processors }) == [[0, 0, 1], [1, 2, 3], [2]])
        let plan = try plan(of: machine)
        #expect(plan.seats.map(\.memoryNode) == [0, 0, 1, 1])
        #expect(plan.seats[0].steal == [[1], [2, 3]])
    }

    @Test func plainMemoryComesBeforeSpecialMemoryOfTheSameProcessors() throws {
        let parts = [
            MachineXML.Part.package(
                0,
                [.node(1, subtype: "MCDRAM"), .node(0, subtype: "DRAM"), .core(0, [.pu(0)]), .core(1, [.pu(1)])]
            )
        ]
        let machine = try MachineXML(parts: parts).topology()
        #expect(machine.nodes.filter { $0.processors.isEmpty }.map(\.memoryKind) == ["MCDRAM"])
        #expect(try plan(of: machine).seats.map(\.memoryNode) == [0, 0])
    }

    @Test func nodesWithoutMemoryTakeItFromTheNearest() throws {
        let parts = [
            MachineXML.Part.package(0, [.node(0), .core(0, [.pu(0)])]),
            .package(1, [.node(1, mebibytes: 0), .core(0, [.pu(1)])]),
            .package(2, [.node(2), .core(0, [.pu(2)])]),
        ]
        let machine = try MachineXML(
            parts: parts,
            distances: ([0, 1, 2], [[10, 40, 20], [40, 10, 15], [20, 15, 10]])
        ).topology()
        #expect(machine.nodes.map(\.distances) == [[10, 40, 20], [40, 10, 15], [20, 15, 10]])
        let plan = try plan(of: machine)
        #expect(plan.seats.map(\.node) == [0, 1, 2])
        #expect(plan.seats.map(\.memoryNode) == [0, 2, 2])
        #expect(plan.seats.map(\.steal) == [[[2], [1]], [[2], [0]], [[1], [0]]])
    }

    @Test func processorsWithoutANodeHaveNone() throws {
        let parts = [
            MachineXML.Part.package(0, [.node(3), .core(0, [.pu(0)]), .core(1, [.pu(1)])]),
            .package(1, [.core(0, [.pu(2)]), .core(1, [.pu(3)])]),
        ]
        let plan = try plan(of: MachineXML(parts: parts).topology())
        #expect(plan.seats.map(\.node) == [0, 0, nil, nil])
        #expect(plan.seats.map(\.memoryNode) == [3, 3, nil, nil])
        #expect(plan.seats.map(\.steal) == [[[1], [2, 3]], [[0], [2, 3]], [[3], [0, 1]], [[2], [0, 1]]])
    }

    /// A first thread, a whole core, and all processors of a node are offline.
    @Test func offlineProcessorsAreLeftOutAndTheirMemoryIsNot() throws {
        let parts = [
            MachineXML.Part.package(
                0,
                [
                    .node(0), .core(0, [.offline(0), .pu(1)]), .core(1, [.offline(2), .offline(3)]),
                    .core(2, [.pu(4), .pu(5)]),
                ]
            ),
            .package(1, [.node(1), .core(0, [.offline(6), .offline(7)])]),
        ]
        let machine = try MachineXML(parts: parts).topology()
        #expect(machine.processors.map(\.osIndex) == [1, 4, 5])
        #expect(machine.allowance.excluded == [0, 2, 3, 6, 7])
        #expect(machine.nodes.map(\.osIndex) == [0, 1])
        #expect(machine.nodes.map(\.processors) == [[0, 1, 2], []])
        let plan = try plan(of: machine)
        #expect(plan.seats.map(\.osPU) == [1, 4, 5])
        #expect(plan.seats.map(\.steal) == [[[1, 2]], [[2], [0]], [[1], [0]]])
    }

    @Test func numbersOfTheKernelMayHaveGaps() throws {
        func package(_ number: Int, node: Int, cores: [Int]) -> MachineXML.Part {
            .package(number, [.node(node)] + cores.map { .core($0, [.pu($0), .pu($0 + 1)]) })
        }
        let parts = [package(8, node: 17, cores: [72, 80]), package(0, node: 252, cores: [0, 8])]
        let machine = try MachineXML(parts: parts, distances: ([17, 252], [[10, 40], [41, 10]])).topology()
        #expect(machine.processors.map(\.osIndex) == [0, 1, 8, 9, 72, 73, 80, 81])
        #expect(machine.cores.map(\.osIndex) == [0, 8, 72, 80])
        #expect(machine.packages.map(\.osIndex) == [0, 8])
        #expect(Set(machine.nodes.map(\.osIndex)) == [17, 252])
        let plan = try plan(of: machine)
        #expect(plan.seats.map(\.osPU) == [0, 8, 72, 80, 1, 9, 73, 81])
        #expect(plan.seats.map(\.core) == [0, 1, 2, 3, 0, 1, 2, 3])
        #expect(plan.seats.map(\.memoryNode) == [252, 252, 17, 17, 252, 252, 17, 17])
        #expect(plan.seats[0].steal == [[4], [1, 5], [2, 3, 6, 7]])
        #expect(plan.seats[0].tiers.last?.proximity == .node(distance: 41))
        #expect(plan.seats[2].tiers.last?.proximity == .node(distance: 40))
    }

    @Test func withoutCoresEachPUIsOne() throws {
        let parts = (0..<2).map { number in
            MachineXML.Part.group([.node(number), .pu(2 * number), .pu(2 * number + 1)])
        }
        let machine = try MachineXML(parts: parts).topology()
        #expect(machine.cores.isEmpty && machine.packages.isEmpty && machine.caches.isEmpty)
        let plan = try plan(of: machine)
        #expect(plan.seats.map(\.osPU) == [0, 1, 2, 3])
        #expect(plan.seats.allSatisfy { $0.core == nil && $0.l3 == nil })
        #expect(plan.seats.map(\.steal) == [[[1], [2, 3]], [[0], [2, 3]], [[3], [0, 1]], [[2], [0, 1]]])
    }
}
