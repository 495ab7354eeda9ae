// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// The ring, with four entries.
    @Suite struct RunRings {
        @Test func ownerAndThievesTakeEachItemOnce() {
            expectHolds("ring, owner against 2 thieves, wrapping") { ownerAndThieves($0) }
        }

        @Test func oneThiefAgainstTheOwnerInDepth() {
            expectHolds("ring, owner against a thief", preemptions: 3) { model in
                let rings = ModelRings(model, skipping: 3)
                model.thread {
                    for item in 1...3 { rings.push(UInt(item)) }
                    rings.pop(0)
                    rings.pop(0)
                }
                model.thread { rings.steal(by: 1, from: 0) }
            }
        }

        @Test func stealingFromAFullRing() {
            expectHolds("ring, full, owner against a thief", preemptions: 3) { model in
                let rings = ModelRings(model, skipping: 2, filledWith: 4)
                model.thread {
                    rings.push(5)
                    rings.push(6)
                }
                model.thread {
                    rings.steal(by: 1, from: 0)
                    rings.steal(by: 1, from: 0)
                }
            }
        }

        @Test func stealingFromAThief() {
            expectHolds("ring, a thief robbed by another", preemptions: 3) { model in
                let rings = ModelRings(model, skipping: 3, filledWith: 4)
                model.thread {
                    rings.steal(by: 1, from: 0)
                    rings.pop(1)
                }
                model.thread { rings.steal(by: 2, from: 1) }
            }
        }

        @Test(arguments: [Model.Mutation.noAcquire, .noRelease, .tornUpdates])
        func weakerOrderingsOfTheRingAreFound(_ mutation: Model.Mutation) {
            expectFound("ring", mutation) { ownerAndThieves($0) }
        }

        private func ownerAndThieves(_ model: Model) {
            let rings = ModelRings(model, skipping: 3)
            model.thread {
                for item in 1...3 { rings.push(UInt(item)) }
                rings.pop(0)
            }
            for thief in 1...2 { model.thread { rings.steal(by: thief, from: 0) } }
        }
    }
}

/// Three rings. What an item stands for is plain memory: the ring alone publishes it to who takes the item.
private final class ModelRings {
    private final class Ring { let ring = RunRing() }

    private let model: Model
    private let rings = (0..<3).map { _ in Ring() }
    private let contents = (0..<8).map { _ in PlainCell() }
    private var pushed: [UInt] = []
    private var taken: [UInt] = []

    init(_ model: Model, skipping: Int, filledWith count: Int = 0) {
        self.model = model
        for _ in 0..<skipping {
            _ = rings[0].ring.push(RunItem(bits: 7))
            _ = rings[0].ring.pop()
        }
        for item in 0..<count { push(UInt(item + 1)) }
        model.finally { self.verdict() }
    }

    func push(_ item: UInt) {
        contents[Int(item)].write(item)
        pushed.append(item)
        // As in `WorkerPool.push`.
        while !rings[0].ring.push(RunItem(bits: item)) {
            for item in rings[0].ring.takeHalf() ?? [] { take(item) }
        }
    }

    func pop(_ index: Int) { if let item = rings[index].ring.pop() { take(item) } }

    func steal(by thief: Int, from victim: Int) {
        if let item = rings[thief].ring.steal(from: rings[victim].ring) { take(item) }
    }

    private func take(_ item: RunItem) {
        if contents[Int(item.bits)].read() != item.bits { model.fail("an item was taken before it was whole") }
        if taken.contains(item.bits) { model.fail("item \(item.bits) was taken twice") }
        taken.append(item.bits)
    }

    private func verdict() -> String? {
        for ring in rings {
            if ring.ring.count > 4 { return "a ring holds more than it can" }
            while let item = ring.ring.pop() { taken.append(item.bits) }
        }
        return taken.sorted() == pushed.sorted() ? nil : "pushed \(pushed), taken \(taken)"
    }
}
