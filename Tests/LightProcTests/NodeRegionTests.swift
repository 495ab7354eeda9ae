// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import Testing

@testable import LightProc

/// Message nodes in slabs, and regions of them.
@Suite struct NodeRegionTests {
    private static let batch = NodePool.batchSize
    private static let base: UInt = 1 << 30

    private func address(_ slab: Int, _ node: Int = 0) -> UInt {
        Self.base + UInt(slab * NodeSlabs.slabSize + node * NodePool.nodeSize)
    }

    private func expectSupply(_ slabs: inout NodeSlabs, _ supply: NodeSlabs.Supply?, _ why: Comment? = nil) {
        let taken = slabs.take()
        #expect(taken == supply, why)
    }

    @Test func slabsAreOpenedInOrderUntilThereAreNoMore() {
        var slabs = NodeSlabs(base: Self.base, capacity: 2)
        expectSupply(&slabs, .slab(address(0)))
        expectSupply(&slabs, .slab(address(1)))
        expectSupply(&slabs, nil)
        #expect(slabs.opened == 2)
    }

    @Test func wholeBatchesAreKeptUpToTheLimit() {
        var slabs = NodeSlabs(base: Self.base, capacity: 4, limit: 1)
        for _ in 0..<3 { _ = slabs.take() }
        let batch = NodeSlabs.Chain(head: address(1, 5), count: Self.batch)
        let kept = [.init(head: address(0), count: 7), batch, .init(head: address(2), count: Self.batch)].map {
            slabs.keep($0)
        }
        #expect(kept == [false, true, false], "no whole batch; and one is enough")
        expectSupply(&slabs, .chain(batch))
    }

    @Test func aSlabWhoseNodesAreAllFreeIsGivenBack() {
        var slabs = NodeSlabs(base: Self.base, capacity: 4, limit: 0)
        _ = slabs.take()
        _ = slabs.take()
        var next = slabs.sort(address(1, 3))
        #expect(next == 0)
        let early = slabs.release(slabOf: address(1, 3))
        #expect(early == nil)
        for node in 0..<Self.batch {
            next = slabs.sort(address(0, node))
            #expect(next == (node == 0 ? 0 : address(0, node - 1)))
            let released = slabs.release(slabOf: address(0, node))
            #expect(released == (node == Self.batch - 1 ? address(0) : nil))
        }
        expectSupply(&slabs, .chain(.init(head: address(1, 3), count: 1)), "what was used before comes first")
        expectSupply(&slabs, .slab(address(0)), "then what was given back")
        expectSupply(&slabs, .slab(address(2)), "and then what was never used")
    }

    /// Against a model: no node is handed out twice, and none is lost.
    @Test func randomTraffic() {
        print("SEED=\(RandomCases.seed) SCALE=\(RandomCases.scale)")
        var random = SeededGenerator(state: RandomCases.seed)
        for _ in 0..<3 * RandomCases.scale {
            var slabs = NodeSlabs(base: Self.base, capacity: 6, limit: Int.random(in: 0...2, using: &random))
            var links: [UInt: UInt] = [:]
            var held: Set<UInt> = []
            for _ in 0..<60 {
                if Bool.random(using: &random) || held.isEmpty {
                    var taken: [UInt] = []
                    switch slabs.take() {
                    case .slab(let start): taken = (0..<Self.batch).map { start + UInt($0 * NodePool.nodeSize) }
                    case .chain(let chain):
                        var next = chain.head
                        while next != 0 {
                            taken.append(next)
                            next = links[next] ?? 0
                        }
                        #expect(taken.count == chain.count, "SEED=\(RandomCases.seed)")
                    case nil: #expect(slabs.opened == 6 && slabs.freeCount == 0, "SEED=\(RandomCases.seed)")
                    }
                    #expect(held.isDisjoint(with: taken), "SEED=\(RandomCases.seed)")
                    held.formUnion(taken)
                } else {
                    let isWhole = Bool.random(using: &random) && held.count >= Self.batch
                    let count = isWhole ? Self.batch : Int.random(in: 1...held.count, using: &random)
                    let given = Array(held.shuffled(using: &random).prefix(count))
                    held.subtract(given)
                    for (node, next) in zip(given, given.dropFirst() + [0]) { links[node] = next }
                    if slabs.keep(.init(head: given[0], count: count)) { continue }
                    for node in given {
                        links[node] = slabs.sort(node)
                        _ = slabs.release(slabOf: node)
                    }
                }
                #expect(slabs.freeCount + held.count == slabs.opened * Self.batch, "SEED=\(RandomCases.seed)")
            }
        }
    }

    /// In a program of its own: the regions are the program's.
    @Test func nodesComeFromTheWorkersRegionAndGoBackThere() async {
        await #expect(processExitsWith: .success) {
            let batch = NodePool.batchSize
            var placed: [UInt] = []
            let pools = (0..<2).map { index in
                let pool = UnsafeMutablePointer<crt_nodePool>.allocate(capacity: 1)
                pool.initialize(to: crt_nodePool())
                let isUsed = NodeRegions.use(index, of: 2, for: pool) {
                    placed.append(UInt(bitPattern: $0.baseAddress))
                    return true
                }
                expectOrExit(isUsed && pool.pointee.region == UInt(index + 1))
                return pool
            }
            expectOrExit(placed.count == 2 && placed[1] - placed[0] == UInt(NodeRegions.span))
            func region(_ node: MessageNode) -> UInt { NodeRegions.number(holding: node.raw) }

            // From one worker to another, and on: what the second received goes home with the last of them.
            crt_setNodes(pools[0])
            let nodes = (0..<2 * batch).map { MessageNode.make($0) }
            expectOrExit(nodes.allSatisfy { region($0) == 1 } && Set(nodes.map(\.bits)).count == 2 * batch)
            crt_setNodes(pools[1])
            for (number, node) in nodes.enumerated() { expectOrExit(node.open(as: Int.self).message == number) }
            expectOrExit(NodePool.count(pools[1]) == 0 && pools[1].pointee.free == nil)
            let others = (0..<3 * batch).map { MessageNode.make($0) }
            expectOrExit(others.allSatisfy { region($0) == 2 })
            crt_setNodes(pools[0])
            let again = (0..<2 * batch).map { MessageNode.make($0) }
            expectOrExit(Set(again.map(\.bits)) == Set(nodes.map(\.bits)))
            expectOrExit(NodeRegions.usedMemory(ofRegion: 0).count == 2 * NodeSlabs.slabSize)

            // What belongs to no region is the allocator's; on a thread that is no worker, each goes home by itself.
            crt_setNodes(nil)
            let strange = MessageNode.make(7)
            expectOrExit(region(strange) == 0 && strange.open(as: Int.self).message == 7)
            for node in again + others { node.refuse(as: Int.self) }
            crt_setNodes(pools[0])
            let third = (0..<2 * batch).map { MessageNode.make($0) }
            expectOrExit(Set(third.map(\.bits)) == Set(nodes.map(\.bits)))
            // Its own list is trimmed to a batch.
            for node in third { node.refuse(as: Int.self) }
            expectOrExit(NodePool.count(pools[0]) == batch)
            NodeRegions.dispose(pools[0])
            expectOrExit(pools[0].pointee.free == nil)
            crt_setNodes(nil)
        }
    }

    @Test func aRegionThatCannotBePlacedIsNotUsed() async {
        await #expect(processExitsWith: .success) {
            let pool = UnsafeMutablePointer<crt_nodePool>.allocate(capacity: 1)
            pool.initialize(to: crt_nodePool())
            expectOrExit(!NodeRegions.use(0, of: 2, for: pool) { _ in false } && pool.pointee.region == 0)
            expectOrExit(!NodeRegions.use(2, of: 2, for: pool) { _ in true }, "there are two")
            crt_setNodes(pool)
            let node = MessageNode.make(1)
            expectOrExit(NodeRegions.number(holding: node.raw) == 0)
            crt_setNodes(nil)
            node.refuse(as: Int.self)
        }
    }
}

/// Ends an exit test that does not hold, and says where.
private func expectOrExit(_ holds: Bool, _ why: String = "", line: Int = #line) {
    if holds { return }
    print("line \(line) does not hold \(why)")
    exit(1)
}
