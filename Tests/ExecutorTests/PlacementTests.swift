// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor

/// Checks what every plan promises, whatever the machine.
func expectValid(_ plan: Placement, of machine: Topology, sourceLocation: SourceLocation = #_sourceLocation) {
    let seats = plan.seats
    #expect(seats.map(\.index) == Array(seats.indices), sourceLocation: sourceLocation)
    #expect(Set(seats.map(\.pu)).count == seats.count, "a PU has two workers", sourceLocation: sourceLocation)
    #expect(seats.allSatisfy { machine.processors[$0.pu].isAllowed }, sourceLocation: sourceLocation)
    #expect(seats.allSatisfy { machine.processors[$0.pu].osIndex == $0.osPU }, sourceLocation: sourceLocation)
    for seat in seats {
        let others = seats.indices.filter { $0 != seat.index }
        #expect(
            seat.steal.flatMap(\.self).sorted() == others,
            "not every other worker once",
            sourceLocation: sourceLocation
        )
        #expect(seat.steal.allSatisfy { !$0.isEmpty && $0 == $0.sorted() }, sourceLocation: sourceLocation)
        #expect(
            zip(seat.tiers, seat.tiers.dropFirst()).allSatisfy { $0.proximity < $1.proximity },
            sourceLocation: sourceLocation
        )
    }
    // A core gets its n-th worker only when every usable core has n - 1 of them, or no more PUs for one.
    var taken: [Int: Int] = [:]
    var rounds: [Int] = []
    for seat in seats {
        rounds.append(seat.core.map { taken[$0, default: 0] } ?? 0)
        if let core = seat.core { taken[core, default: 0] += 1 }
    }
    #expect(rounds == rounds.sorted(), "an SMT sibling before a core", sourceLocation: sourceLocation)
    // Within a round, the fastest kinds come first.
    let ranks = Dictionary(uniqueKeysWithValues: machine.kinds.map { ($0.index, $0.rank ?? 0) })
    let speeds = zip(rounds, seats).map { (round: $0, rank: ranks[$1.kind] ?? 0) }
    let descends = zip(speeds, speeds.dropFirst()).allSatisfy { $0.round != $1.round || $0.rank >= $1.rank }
    #expect(descends, "a slow kind before a fast one", sourceLocation: sourceLocation)
}

@Suite struct PlacementTests {
    @Test func stealOrderGoesFromSiblingToFarPackage() throws {
        let machine = try Topology(synthetic: "pack:2 numa:1 l3:2 l2:2 core:2 pu:2")
        let plan = try Placement(machine)
        expectValid(plan, of: machine)
        // 16 cores, so worker 0 sits on PU 0 and its sibling PU 1 has worker 16.
        #expect(
            plan.seats[0].tiers.map(\.proximity) == [.sameCore, .sameL2, .sameL3, .sameNode, .elsewhere(levels: 4)]
        )
        #expect(
            plan.seats[0].steal == [
                [16], [1, 17], [2, 3, 18, 19], [4, 5, 6, 7, 20, 21, 22, 23], Array(8..<16) + Array(24..<32),
            ]
        )
    }

    @Test(arguments: [
        (1, [0]), (3, [0, 2, 4]), (4, [0, 2, 4, 6]), (6, [0, 2, 4, 6, 1, 3]), (8, [0, 2, 4, 6, 1, 3, 5, 7]),
    ])
    func coresComeBeforeSiblings(count: Int, pus: [Int]) throws {
        let machine = try Topology(synthetic: "pack:2 core:2 pu:2")
        let plan = try Placement(machine, options: .init(workerCount: count))
        expectValid(plan, of: machine)
        #expect(plan.seats.map(\.pu) == pus)
    }

    @Test(arguments: [0, -1, Int.min, 9, Int.max])
    func impossibleWorkerCountsAreTypedErrors(count: Int) throws {
        let machine = try Topology(synthetic: "pack:2 core:2 pu:2")
        let error = try #require(throws: TopologyError.self) {
            try Placement(machine, options: .init(workerCount: count))
        }
        #expect(error.code == .invalidWorkerCount)
    }

    @Test func oversubscribedWorkersShareInTurn() throws {
        let machine = try Topology(synthetic: "pack:1 core:2 pu:1")
        let plan = try Placement(machine, options: .init(workerCount: 5, oversubscribes: true))
        #expect(plan.seats.map(\.pu) == [0, 1, 0, 1, 0])
        #expect(plan.seats[0].tiers.first == StealTier(proximity: .samePU, workers: [2, 4]))
        #expect(throws: TopologyError.self) {
            try Placement(machine, options: .init(workerCount: .max, oversubscribes: true))
        }
    }

    @Test func machineWithoutUsablePUIsATypedError() throws {
        let machine = try Topology(synthetic: "core:2 pu:1").changed(allowed: [])
        let error = try #require(throws: TopologyError.self) { try Placement(machine) }
        #expect(error.code == .noUsableProcessor)
    }

    @Test func forbiddenFirstSiblingLeavesTheCoreToTheSecond() throws {
        let machine = try Topology(synthetic: "core:3 pu:2").changed(allowed: [1, 2, 3, 4])
        let plan = try Placement(machine)
        expectValid(plan, of: machine)
        #expect(plan.seats.map(\.pu) == [1, 2, 4, 3])
    }

    @Test(arguments: [
        (Int?.none, Placement.Options.Pinning.automatic, true), (1, .automatic, true), (nil, .never, false),
        (nil, .always, true),
    ])
    func workersOfThisMachineArePinned(count: Int?, pinning: Placement.Options.Pinning, pins: Bool) throws {
        let machine = try Topology(synthetic: "core:4 pu:1").changed(origin: .thisMachine)
        #expect(try Placement(machine, options: .init(workerCount: count, pinning: pinning)).pinsWorkers == pins)
    }

    @Test func workersOfAnotherMachineAreNotPinned() throws {
        let plan = try Placement(Topology(synthetic: "core:4 pu:1"))
        #expect(!plan.pinsWorkers)
    }

    @Test(arguments: [(250_000, 3, false), (399_999, 4, true), (900_000, 4, true), (1, 1, false)])
    func quotaLimitsWorkersAndSharesPUs(microseconds: Int, workers: Int, pins: Bool) throws {
        let quota = CPUQuota(quotaMicroseconds: microseconds, periodMicroseconds: 100_000, source: "cpu.max")
        let machine = try Topology(synthetic: "core:4 pu:1").changed(quota: quota, origin: .thisMachine)
        let plan = try Placement(machine)
        #expect(plan.seats.count == workers)
        #expect(plan.pinsWorkers == pins)
    }

    @Test func cpuNodeWithoutMemoryTakesItFromTheNearest() throws {
        let machine = try Topology(synthetic: "pack:3 numa:1 core:1 pu:1").changed(
            distances: [[10, 30, 20], [30, 10, 15], [20, 15, 10]],
            memory: [0, 1 << 30, 1 << 30]
        )
        let plan = try Placement(machine)
        #expect(plan.seats.map(\.node) == [0, 1, 2])
        #expect(plan.seats.map(\.memoryNode) == [2, 1, 2])
        #expect(plan.seats[0].steal == [[2], [1]])
    }

    @Test func asymmetricDistancesAreTakenFromTheThief() throws {
        let machine = try Topology(synthetic: "pack:3 numa:1 pu:1").changed(
            distances: [[10, 20, 40], [40, 10, 20], [20, 40, 10]])
        #expect(try Placement(machine).seats.map(\.steal) == [[[1], [2]], [[2], [0]], [[0], [1]]])
    }

    @Test func cacheOverSeveralNodesPutsTheOwnNodeFirst() throws {
        let machine = try Topology(synthetic: "pack:1 l3:1 numa:2 core:2 pu:1")
        let plan = try Placement(machine)
        expectValid(plan, of: machine)
        #expect(plan.seats[0].tiers.map(\.proximity) == [.sameL3, .sameL3OtherNode])
        #expect(plan.seats[0].steal == [[1], [2, 3]])
    }
}

/// Plans written by hand from what `lstopo-no-graphics --input FILE` (hwloc 2.9) prints.
@Suite(
    .enabled(
        if: TopologyFiles.arePresent,
        "no hwloc files in ../shared/topologies; BASTION_TOPOLOGIES names another folder"
    )
)
struct PlacementFileTests {
    @Test(arguments: TopologyFiles.names)
    func everyUsablePUOfAFileHasAWorker(name: String) throws {
        let machine = try TopologyFiles.load(name)
        let plan = try Placement(machine)
        expectValid(plan, of: machine)
        #expect(plan.seats.map(\.pu).sorted() == Array(machine.processors.indices))
        #expect(!plan.pinsWorkers)
        for count in [1, 3, min(40, machine.processors.count / 2)] {
            let few = try Placement(machine, options: .init(workerCount: count))
            expectValid(few, of: machine)
            #expect(
                few.seats.map(\.pu) == plan.seats.prefix(count).map(\.pu),
                "fewer workers sit on the same first seats"
            )
        }
    }

    @Test func raptorLakeSeatsPerformanceCoresThenEfficiencyCoresThenSiblings() throws {
        let plan = try Placement(TopologyFiles.load("raptor-lake-6p8e.xml"))
        #expect(plan.seats.map(\.osPU) == [0, 2, 4, 6, 8, 10] + Array(12...19) + [1, 3, 5, 7, 9, 11])
        #expect(plan.seats.map(\.kind) == [1, 1, 1, 1, 1, 1] + [0, 0, 0, 0, 0, 0, 0, 0] + [1, 1, 1, 1, 1, 1])
        #expect(plan.seats.map(\.core) == Array(0...5) + Array(6...13) + Array(0...5))
        #expect(plan.seats.allSatisfy { $0.l3 == 0 && $0.node == 0 && $0.memoryNode == 0 })
        // A performance core has a sibling and its own L2; efficiency cores share an L2 by fours.
        #expect(plan.seats[0].steal == [[14], Array(1...13) + Array(15...19)])
        #expect(plan.seats[6].steal == [[7, 8, 9], [0, 1, 2, 3, 4, 5] + Array(10...19)])
        #expect(plan.seats[13].steal == [[10, 11, 12], Array(0...9) + Array(14...19)])
        #expect(plan.seats[19].steal == [[5], Array(0...4) + Array(6...18)])
    }

    @Test func knightsLandingSeatsCoresByQuarters() throws {
        let plan = try Placement(TopologyFiles.load("64intel64-fakeKNL-SNC4-hybrid.xml"))
        // Kernel numbers run over the cores first, so that they are the worker numbers here.
        #expect(plan.seats.map(\.osPU) == Array(0..<64))
        #expect(plan.seats.map(\.pu).prefix(17) == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 1])
        #expect(plan.seats.prefix(16).map(\.core) == Array(0...15))
        #expect(plan.seats.prefix(16).map(\.node) == [0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6])
        #expect(plan.seats.prefix(16).map(\.memoryNode) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
        #expect(plan.seats[21].l3 == 1)
        #expect(
            plan.seats[5].steal == [
                [21, 37, 53], [4, 20, 36, 52], [6, 7, 22, 23, 38, 39, 54, 55],
                (0..<64).filter { ![1].contains($0 % 16 / 4) },
            ]
        )
    }

    @Test func offlineCPUsHaveNoSeat() throws {
        let plan = try Placement(TopologyFiles.load("16em64t-4s2c2t-offlines.xml"))
        #expect(plan.seats.map(\.osPU) == [0, 4, 1, 6, 3, 15, 12])
        #expect(plan.seats.map(\.pu) == [0, 1, 3, 4, 5, 6, 2])
        #expect(plan.seats.map(\.core) == [0, 1, 2, 3, 4, 5, 1])
        #expect(plan.seats.map(\.l3) == [0, 0, 1, 2, 3, 3, 0])
        #expect(
            plan.seats.map(\.steal) == [
                [[1, 6], [2, 3, 4, 5]], [[6], [0], [2, 3, 4, 5]], [[0, 1, 3, 4, 5, 6]], [[0, 1, 2, 4, 5, 6]],
                [[5], [0, 1, 2, 3, 6]], [[4], [0, 1, 2, 3, 6]], [[1], [0], [2, 3, 4, 5]],
            ]
        )
    }

    @Test func memoryOnlyNodesSeatNobody() throws {
        let plan = try Placement(TopologyFiles.load("16amd64-8n2c-cpusets.xml"))
        #expect(plan.seats.map(\.osPU) == [0, 1, 2, 3, 5, 6, 12, 13, 14, 15])
        #expect(plan.seats.map(\.node) == [nil, nil, 0, 0, 1, 2, nil, nil, nil, nil])
        #expect(plan.seats.map(\.memoryNode) == [nil, nil, 1, 1, 2, 3, nil, nil, nil, nil])
        #expect(plan.seats[0].steal == [[1], Array(2...9)])
        #expect(plan.seats[2].steal == [[3], [4, 5], [0, 1, 6, 7, 8, 9]])
        #expect(plan.seats[4].steal == [[2, 3, 5], [0, 1, 6, 7, 8, 9]])
    }

    @Test func machineWithoutCoresSeatsEachPUAsACore() throws {
        let plan = try Placement(TopologyFiles.load("8intel64-4n2t-memattrs.xml"))
        #expect(plan.seats.map(\.osPU) == Array(0..<8))
        #expect(plan.seats.allSatisfy { $0.core == nil && $0.l3 == nil })
        #expect(plan.seats[2].steal == [[3], [0, 1, 4, 5, 6, 7]])
    }

    @Test func kindsWithinACoreSeatTheFasterPUFirst() throws {
        let plan = try Placement(TopologyFiles.load("fakecpukinds.xml"))
        // P#3 is of kind 2, P#2 of kind 1, P#0 and P#1 of kind 0; cores are {P#0, P#2} and {P#1, P#3}.
        #expect(plan.seats.map(\.osPU) == [3, 2, 0, 1])
        #expect(plan.seats.map(\.kind) == [2, 1, 0, 0])
        #expect(plan.seats.map(\.steal) == [[[3], [1, 2]], [[2], [0, 3]], [[1], [0, 3]], [[0], [1, 2]]])
    }

    @Test func sparseNumbersAndPrivateCachesOfPower8() throws {
        let plan = try Placement(TopologyFiles.load("power8gpudistances.xml"))
        #expect(plan.seats.map(\.osPU) == [0, 8, 16, 24, 80, 88, 96, 104, 1, 9, 17, 25, 81, 89, 97, 105])
        #expect(plan.seats[0].steal == [[8], [1, 2, 3, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]])
    }

    @Test func farNodesComeByDistance() throws {
        let plan = try Placement(TopologyFiles.load("fakeheterodistances.xml"))
        // Row 0 of the matrix: 10 16 16 22 16 22 16 22; one worker on each node.
        #expect(plan.seats[0].steal == [[1, 2, 4, 6], [3, 5, 7]])
        #expect(plan.seats[0].tiers.map(\.proximity) == [.node(distance: 16), .node(distance: 22)])
    }

    @Test func packagesThatShareANodeAreNearerThanOtherNodes() throws {
        let plan = try Placement(TopologyFiles.load("96em64t-4n4d3ca2co-pci.xml"))
        #expect(plan.seats[0].steal.prefix(3) == [[1], [2, 3, 4, 5], Array(6..<24)])
        #expect(plan.seats[0].steal.dropFirst(3).flatMap(\.self).sorted() == Array(24..<96))
    }
}
