// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Whether the kernel answers where memory lies; a sandbox may forbid the question.
private let kernelAnswers: Bool = {
    var word = 1
    return withUnsafeBytes(of: &word) { (try? MemoryLocation.node(of: UInt(bitPattern: $0.baseAddress))) ?? nil } != nil
}()

/// Memory on a NUMA node. This machine may have only one: what several make of it is tested in `make test-numa`.
@Suite struct NodeMemoryTests {
    @Test(.enabled(if: kernelAnswers, "the kernel does not say where memory lies"))
    func theKernelSaysWhereAPageLies() throws {
        let nodes = try Set(Topology.current().nodes.map(\.osIndex))
        let page = UInt(NodeMemory.pageSize)
        let memory = try #require(mmap(nil, Int(3 * page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
        defer { munmap(memory, Int(3 * page)) }
        memory.storeBytes(of: 1, toByteOffset: Int(page) + 5, as: UInt8.self)
        let start = UInt(bitPattern: memory)
        let seen = try MemoryLocation.nodes(of: start..<(start + 3 * page))
        #expect(seen.count == 3 && seen[0] == nil && seen[2] == nil)
        #expect(try nodes.contains(#require(seen[1])))
        #expect(try MemoryLocation.node(of: start + page + 5) == seen[1])
        #expect(try MemoryLocation.nodes(of: (start + page - 1)..<(start + page + 1)).count == 2, "pages in part")
        #expect(try MemoryLocation.nodes(of: start..<start).isEmpty)
    }

    @Test func memoryOfANodeIsZeroedAndGivenBack() {
        for osNode in [nil, 0] {
            let memory = NodeMemory(osNode: osNode)
            let block = memory.allocate(byteCount: 5000, alignment: 64)
            if osNode != nil {
                #expect((0..<5000).allSatisfy { block.load(fromByteOffset: $0, as: UInt8.self) == 0 })
            }
            memset(block, 7, 5000)
            memory.deallocate(block, byteCount: 5000)
        }
    }

    @Test(.enabled(if: ThreadPlacement.isNUMAAvailable, "the kernel has no NUMA"))
    func whatTheKernelRefusesIsSaidOnce() async throws {
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            let nowhere = NodeMemory(osNode: 999)
            for _ in 0..<3 {
                let block = nowhere.allocate(byteCount: 100, alignment: 64)
                block.storeBytes(of: 1, as: UInt8.self)
                nowhere.deallocate(block, byteCount: 100)
                nowhere.preferForCallingThread()
            }
            NodeMemory.anywhere.preferForCallingThread()
        }
        let said = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(said.split(separator: "\n").count { $0.hasPrefix("bastion: memory may lie on other NUMA nodes") } == 1)
    }

    @Test func itemsComeOutInOrder() {
        print("SEED=\(RandomRun.seed) SCALE=\(RandomRun.scale)")
        var random = SeededGenerator(seed: RandomRun.seed)
        for osNode in [nil, 0] {
            var ring = ItemRing(NodeMemory(osNode: osNode))
            defer { ring.free() }
            var (next, expected) = (UInt(0), UInt(0))
            for _ in 0..<200 * RandomRun.scale {
                for _ in 0..<Int.random(in: 0...40, using: &random) {
                    ring.append(RunItem(bits: next))
                    next += 1
                }
                for _ in 0..<Int.random(in: 0...35, using: &random) {
                    guard let item = ring.popFirst() else {
                        #expect(expected == next, "SEED=\(RandomRun.seed)")
                        break
                    }
                    #expect(item.bits == expected, "SEED=\(RandomRun.seed)")
                    expected += 1
                }
                #expect(ring.count == Int(next - expected), "SEED=\(RandomRun.seed)")
            }
            while let item = ring.popFirst() {
                #expect(item.bits == expected)
                expected += 1
            }
            #expect(expected == next)
        }
    }

    @Test func stacksAreUsedAgainWhereTheyLie() {
        var stacks = WorkerStackPool(resting: 1)
        let (here, there) = (NodeMemory.anywhere, NodeMemory(osNode: 0))
        let (first, second) = (stacks.take(here), stacks.take(there))
        #expect(first.memory == here && second.memory == there)
        stacks.put(first, afterTrap: false)
        stacks.put(second, afterTrap: false)
        let third = stacks.take(here)
        #expect(third.base == first.base)
        let fourth = stacks.take(here)
        #expect(fourth.base != second.base && fourth.memory == here)
        stacks.put(third, afterTrap: false)
        stacks.put(fourth, afterTrap: false)
        let fifth = stacks.take(there)
        #expect(fifth.base == second.base)
        fifth.unmap()
        stacks.unmapAll()
    }

    @Test func otherNodesAreVisitedByDistance() throws {
        let machine = try Topology(synthetic: "pack:3 numa:1 core:2 pu:1").changed(
            distances: [[10, 40, 20], [40, 10, 15], [20, 15, 10]]
        )
        let placement = try Placement(machine)
        let plan = NodePlan(placement)
        #expect(
            placement.seats.map { plan.otherNodes(from: $0) } == [[2, 1], [2, 1], [2, 0], [2, 0], [1, 0], [1, 0]]
        )
        let one = try Placement(Topology(synthetic: "core:2 pu:1"))
        #expect(NodePlan(one).otherNodes(from: one.seats[0]).isEmpty)
    }

    /// All memory of a pool that places it, while messages flow, processes trap, and afterwards.
    @Test(.enabled(if: kernelAnswers, "the kernel does not say where memory lies"))
    func aPoolThatPlacesItsMemoryWorks() async throws {
        let placement = try Placement(Topology.current())
        let pool = WorkerPool(placement: placement, stallThreshold: nil, placesMemory: true)
        let done = Rendezvous(4)
        for _ in 0..<4 {
            let receiver = LightProc.reactive(Bystander(), on: pool)
            let sender = LightProc.reactive(Doer(), on: pool)
            sender.tell { _ in
                for number in 0..<3000 { receiver.send(Bystander.Message.number(number)) }
                receiver.send(
                    Bystander.Message.report {
                        precondition($0 == 3000 && $1)
                        done.arrive()
                    }
                )
            }
        }
        done.everybody.blockingWait()
        for _ in 0..<3 {
            let victim = LightProc.reactive(Doer(), on: pool)
            victim.tell { _ in _ = Misdeed.unwrapping.commit() }
            guard case .trap = await exit(of: victim) else {
                Issue.record("not contained")
                break
            }
        }
        for each in try pool.memoryOfWorkers() {
            let node = try #require(placement.seats[each.worker].memoryNode)
            #expect(each.node == node)
            for area in [each.stack, each.queues, each.messageNodes] {
                #expect(area.pagesByNode.keys.elementsEqual([node]), "\(each)")
            }
            // Nobody may have needed a queue for what comes from outside, but its lock.
            #expect(each.nodeQueues.pagesByNode.keys.elementsEqual([node]))
        }
        await pool.shutDownElsewhere()
    }
}
