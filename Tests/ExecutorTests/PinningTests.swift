// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor
@testable import LightProc

/// What is decided about pinned processes: which workers a set stands for, who is woken, and whose turn it is. Pure.
@Suite struct PinningTests {
    private func plan(_ machine: String, workers: Int? = nil) throws -> Placement {
        try Placement(Topology(synthetic: machine), options: .init(workerCount: workers, pinning: .never))
    }

    private func error(_ plan: Placement, _ cores: CoreSet) -> PinningError? {
        do throws(PinningError) {
            let place = try plan.place(of: cores)
            Issue.record("\(cores) is \(place)")
            return nil
        } catch {
            return error
        }
    }

    // MARK: Sets

    @Test func aSetIsItsProcessorsInNoOrder() {
        #expect(CoreSet.cores([3, 0, 2, 0]) == .cores([0, 2, 3]))
        #expect(CoreSet.cores([3, 0, 2, 0]).description == "processors 0, 2, 3")
        #expect(CoreSet.node(1).description == "node 1")
        #expect(CoreSet.node(1) != .cores([1]))
    }

    @Test func nodesAndProcessorsAreTheKernels() throws {
        // The kernel numbers hardware threads in turn.
        let plan = try plan("pack:2 [numa(indexes=5,2)] core:2 pu:2(indexes=0,4,1,5,2,6,3,7)")
        let first = try plan.place(of: .node(5))
        #expect(first.osPUs == [0, 1, 4, 5])
        #expect(first.seats.map { plan.seats[$0].osPU }.sorted() == [0, 1, 4, 5])
        let second = try plan.place(of: .node(2))
        #expect(second.osPUs == [2, 3, 6, 7])
        let some = try plan.place(of: .cores([6, 0]))
        #expect(some.osPUs == [0, 6])
        #expect(some.seats.map { plan.seats[$0].osPU }.sorted() == [0, 6])
    }

    @Test func whatIsNotThereIsNamedTogetherWithWhatIs() throws {
        let plan = try plan("pack:2 [numa] core:2 pu:1")
        let there = "workers are on processors 0-3 (NUMA node 0: 0-1; NUMA node 1: 2-3)"
        let node = error(plan, .node(2))
        #expect(node?.code == .noSuchNode)
        #expect(node?.description == "cannot pin to NUMA node 2: no worker is there; \(there)")
        let cores = error(plan, .cores([1, 4, 7]))
        #expect(cores?.code == .noSuchProcessor)
        #expect(cores?.description == "cannot pin to processors 1, 4, 7: there is no worker on 4,7; \(there)")
        let none = error(plan, .cores([]))
        #expect(none?.code == .emptySet)
        #expect(none?.description == "cannot pin to an empty set of processors; \(there)")
        #expect(error(plan, .cores([-1]))?.code == .noSuchProcessor)
        #expect(error(plan, .node(-1))?.code == .noSuchNode)
    }

    @Test func aNodeWithoutWorkersIsNoNode() throws {
        let plan = try plan("pack:2 [numa] core:2 pu:1", workers: 1)
        #expect(error(plan, .node(1))?.code == .noSuchNode)
        #expect(try plan.place(of: .node(0)) == PinnedPlace(seats: [0], osPUs: [0, 1]))
        #expect(error(plan, .cores([1]))?.description.hasSuffix("workers are on processors 0 (NUMA node 0: 0)") == true)
    }

    /// Against a model that only does arithmetic on the numbers of processors.
    @Test func setsOnRandomMachinesFollowTheModel() throws {
        var random = SeededGenerator(seed: RandomRun.seed &+ 61)
        for _ in 0..<(20 * RandomRun.scale) {
            func pick(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
            let (packages, cores, pus) = (pick(1...4), pick(1...4), pick(1...2))
            let count = packages * cores * pus
            let plan = try plan("pack:\(packages) [numa] core:\(cores) pu:\(pus)", workers: pick(1...count))
            let known = Set(plan.seats.map(\.osPU))
            for _ in 0..<20 {
                let wanted = (0..<pick(0...3)).map { _ in pick(0...(count + 1)) }
                let place = try? plan.place(of: .cores(wanted))
                let isThere = !wanted.isEmpty && known.isSuperset(of: wanted)
                #expect((place != nil) == isThere, "SEED=\(RandomRun.seed): \(wanted) of \(known)")
                #expect(place.map { Set($0.seats.map { plan.seats[$0].osPU }) } ?? Set(wanted) == Set(wanted))
                let node = pick(0...packages)
                let ofNode = known.filter { $0 / (cores * pus) == node }
                let whole = try? plan.place(of: .node(node))
                #expect((whole != nil) == !ofNode.isEmpty, "SEED=\(RandomRun.seed): node \(node) of \(known)")
                #expect(Set(whole?.seats.map { plan.seats[$0].osPU } ?? []) == ofNode)
            }
        }
    }

    // MARK: Waking

    /// All states of three workers.
    @Test func aSleeperIsWokenUnlessOneIsOnTheWay() {
        for number in 0..<27 {
            let states: [UInt32] = [number / 9, number / 3 % 3, number % 3].map { UInt32($0) }
            let choice = PinnedWake.choose(
                among: states.enumerated().map { (worker: 10 + $0.offset, state: $0.element) }
            )
            if states.contains(2) {
                #expect(choice == .nobody, "\(states)")
            } else if let first = states.firstIndex(of: 1) {
                #expect(choice == .oneOf(10 + first), "\(states)")
            } else {
                #expect(choice == .standIns, "\(states)")
            }
        }
    }

    // MARK: Turns

    private func order(longTurns: Bool, mindsPinned: Bool = true) -> TurnOrder {
        var order = TurnOrder()
        order.resume(0, at: 1_000)
        order.measure(64, at: 1_000 + 64 * (longTurns ? 50_000 : 100))
        order.mindPinned(mindsPinned)
        return order
    }

    @Test(arguments: [false, true])
    func whatIsPinnedHasItsShareAndNoMore(longTurns: Bool) {
        let order = order(longTurns: longTurns)
        let turns = UInt(0)..<640
        #expect(turns.allSatisfy { order.isSpecial($0) })
        let pinned = turns.map { order.pinned(at: $0) }
        #expect(pinned.count { $0 == .any } == (longTurns ? 120 : 280))
        #expect(pinned.count { $0 == .normal } == 40)
        #expect(pinned.count { $0 == .low } == 5)
        // All that others have by right they have still, but for half of the turns of low priority.
        for turn in turns where order.first(at: turn) != .urgent {
            #expect(order.pinned(at: turn) == (turn % 128 == 64 ? .low : .nothing), "turn \(turn)")
        }
        // And what is made ready last has turns of its own.
        #expect(turns.count { order.first(at: $0) == .urgent && order.pinned(at: $0) == .nothing } >= 160)
    }

    @Test(arguments: [false, true])
    func turnsAreAsEverWhereNothingIsPinned(longTurns: Bool) {
        let order = order(longTurns: longTurns, mindsPinned: false)
        for turn in UInt(0)..<640 {
            #expect(order.isSpecial(turn) == (turn % (longTurns ? 2 : 16) == 0))
            #expect(order.isSpecial(turn) == (order.first(at: turn) != .urgent))
        }
    }

    /// With any of the queues full, for ever: nothing waits for longer than its share allows.
    @Test(arguments: [false, true])
    func nothingStarvesWhateverWaits(longTurns: Bool) {
        let order = order(longTurns: longTurns)
        for number in 0..<16 {
            // What is pinned, by priority; then what else the worker has.
            let (high, normal, low, own) = (number & 1 != 0, number & 2 != 0, number & 4 != 0, number & 8 != 0)
            var waited = [0, 0, 0, 0]
            for turn in UInt(1)...1000 {
                let own = own ? 3 : nil
                let taken: Int? =
                    switch order.pinned(at: turn) {
                    case .any: high ? 0 : normal ? 1 : own
                    case .normal: normal ? 1 : high ? 0 : own
                    case .low: low ? 2 : own
                    case .nothing: order.first(at: turn) == .urgent && high ? 0 : own
                    }
                for kind in 0..<4 { waited[kind] = kind == taken ? 0 : waited[kind] + 1 }
                if high { #expect(waited[0] <= 16, "\(number) at \(turn)") }
                if normal { #expect(waited[1] <= 16, "\(number) at \(turn)") }
                if low { #expect(waited[2] <= 128, "\(number) at \(turn)") }
                if own != nil { #expect(waited[3] <= (high ? 32 : 4), "\(number) at \(turn)") }
            }
        }
    }

    // MARK: Tags

    @Test func aPinnedProcessIsAtHomeNowhere() {
        for number in [0, 1, 1023] {
            var tag = ProcTag(id: ProcID(rawValue: 77), isReactive: true)
            #expect(tag.pin == nil && !tag.isPinned)
            tag.pin = number
            tag.priority = .high
            #expect(
                tag.pin == number && tag.priority == .high && tag.id.rawValue == 77 && tag.isReactive && !tag.isManaged
            )
            #expect(tag.worker == nil)
            for worker in [0, 1, 1022, 1023] {
                for compares in [false, true] {
                    let home = ProcTag.home(ofWorker: worker)
                    #expect((tag.rawValue ^ home) & ProcTag.homeMask(comparesWorkers: compares) != 0)
                }
            }
            tag.priority = .normal
            #expect((tag.rawValue ^ ProcTag.home(ofWorker: 3)) & ProcTag.homeMask(comparesWorkers: false) != 0)
        }
    }
}
