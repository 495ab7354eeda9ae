// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import Testing

@testable import LightProc

/// A message goes into a node and comes out as it was, and nothing is lost or destroyed twice.
@Suite struct MessageNodeTests {
    private func roundTrip<Message: Equatable & Sendable>(_ message: Message) {
        let node = MessageNode.make(message)
        #expect(node.receipt == nil)
        let (opened, receipt) = node.open(as: Message.self)
        #expect(opened == message)
        #expect(receipt == nil)
    }

    private struct Wide: Equatable, Sendable {
        var a = InlineNumbers()
        var text = "a string that is too long for the small form"
        struct InlineNumbers: Equatable, Sendable {
            var x = (0..<4).map { $0 }
            var y: Int64 = -1
            var z: (Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64) = (1, 2, 3, 4, 5, 6, 7, 8)
            static func == (lhs: Self, rhs: Self) -> Bool {
                lhs.x == rhs.x && lhs.y == rhs.y && lhs.z.0 == rhs.z.0 && lhs.z.7 == rhs.z.7
            }
        }
    }

    @Test func messagesOfAnySizeComeOutAsTheyWentIn() {
        roundTrip(UInt8(7))
        roundTrip(true)
        roundTrip(Int.min)
        roundTrip("short")
        roundTrip("a string that is too long for the small form")
        roundTrip([1, 2, 3])
        roundTrip(Int?.none)
        #expect(MemoryLayout<Wide>.size > 64 - 16)
        roundTrip(Wide())
    }

    @Test func anEmptyMessageNeedsNoRoom() {
        MessageNode.make(()).open(as: Void.self).message
        #expect(MessageNode.Layout<Void>.size == 16)
    }

    @Test func overAlignedMessagesLieAligned() {
        func check<Message>(_ type: Message.Type) {
            let alignment = MemoryLayout<Message>.alignment
            #expect(MessageNode.Layout<Message>.offset % alignment == 0)
            // The node itself lies at a multiple of 64.
            #expect(alignment <= 64, "\(type) wants \(alignment)")
        }
        check(SIMD4<Double>.self)
        check(SIMD8<Double>.self)
        check(SIMD16<Double>.self)
        check(SIMD64<Double>.self)
        roundTrip(SIMD4<Double>(1, 2, 3, 4))
        roundTrip(SIMD8<Int64>(1, 2, 3, 4, 5, 6, 7, 8))
        roundTrip(SIMD16<Double>(repeating: 0.5))
        roundTrip(SIMD64<Double>(repeating: 0.25))
    }

    @Test func objectsAreNeitherLeakedNorDestroyedTwice() {
        let tally = Tracked.Tally()
        for number in 0..<100 {
            let node = MessageNode.make(Tracked(number, in: tally))
            #expect(tally.live == 1)
            #expect(node.open(as: Tracked.self).message.value == number)
        }
        #expect(tally.live == 0)
        MessageNode.make([Tracked(in: tally), Tracked(in: tally)]).refuse(as: [Tracked].self)
        #expect(tally.live == 0)
    }

    @Test func aReceiptIsHandedOutOnce() {
        let record = Record<String>()
        weak var watched: NotingReceipt?
        do {
            let receipt = NotingReceipt(record)
            watched = receipt
            let node = MessageNode.make(1, receipt: receipt)
            #expect(node.receipt === receipt)
            let opened = node.open(as: Int.self)
            #expect(opened.receipt === receipt)
        }
        #expect(watched == nil)
        do {
            let receipt = NotingReceipt(record)
            watched = receipt
            let node = MessageNode.make(2, receipt: receipt)
            #expect(node.takeReceipt() === receipt)
            #expect(node.takeReceipt() == nil)
            #expect(node.open(as: Int.self).receipt == nil)
        }
        #expect(watched == nil)
    }

    /// Runs a closure on threads that have a pool of nodes each, as workers have.
    private func onWorkers(
        _ count: Int = 1,
        _ body: @escaping @Sendable (UnsafeMutablePointer<crt_nodePool>) -> Void
    ) {
        onThreads(count) { _ in
            let record = UnsafeMutablePointer<crt_thread>.allocate(capacity: 1)
            let nodes = UnsafeMutablePointer<crt_nodePool>.allocate(capacity: 1)
            memset(record, 0, MemoryLayout<crt_thread>.size)
            nodes.initialize(to: crt_nodePool())
            let size = crt_alternateStackSize()
            let alternate = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
            record.pointee.alternateStack = alternate
            record.pointee.alternateStackSize = size
            crt_setNodes(nodes)
            defer { crt_setNodes(nil) }
            final class Start {
                let run: () -> Void
                init(_ run: @escaping () -> Void) { self.run = run }
            }
            let start = Start { body(nodes) }
            let returned = crt_runThread(
                record,
                { Unmanaged<Start>.fromOpaque($0!).takeUnretainedValue().run() },
                Unmanaged.passUnretained(start).toOpaque()
            )
            withExtendedLifetime(start) { #expect(returned) }
            while let node = nodes.pointee.free {
                nodes.pointee.free = node.load(as: UnsafeMutableRawPointer?.self)
                free(node)
            }
            nodes.deallocate()
            alternate.deallocate()
            record.deallocate()
        }
    }

    // The first node may come with a batch from the depot, which other tests fill: counts are compared, not known.

    @Test func aWorkersNodesAreUsedAgain() {
        onWorkers { pool in
            let first = MessageNode.make(1)
            let count = NodePool.count(pool)
            let bits = first.bits
            _ = first.open(as: Int.self)
            #expect(NodePool.count(pool) == count + 1)
            let second = MessageNode.make("other")
            #expect(second.bits == bits)
            #expect(NodePool.count(pool) == count)
            second.refuse(as: String.self)
            #expect(NodePool.count(pool) == count + 1)
        }
    }

    @Test func largeMessagesDoNotComeFromThePool() {
        onWorkers { pool in
            MessageNode.make(1).refuse(as: Int.self)
            let count = NodePool.count(pool)
            let node = MessageNode.make(Wide())
            #expect(NodePool.count(pool) == count)
            node.refuse(as: Wide.self)
            #expect(NodePool.count(pool) == count)
        }
    }

    /// A stream from one worker to another: what piles up at the receiver goes in batches to who runs out.
    @Test func nodesThatPileUpGoToWorkersThatRunOut() {
        let batch = Int(NodePool.batchSize)
        onWorkers { pool in
            let nodes = (0..<3 * batch).map { MessageNode.make($0) }
            let places = Set(nodes.map(\.bits))
            for node in nodes { node.refuse(as: Int.self) }
            #expect(NodePool.count(pool) < 2 * NodePool.batchSize)
            // All come out again, through the depot (which other tests may use at the same time).
            let again = (0..<3 * batch).map { MessageNode.make($0) }
            #expect(Set(again.map(\.bits)).count == 3 * batch, "no node is handed out twice")
            #expect(Set(again.map(\.bits)).intersection(places).count >= batch)
            for (number, node) in again.enumerated() { #expect(node.open(as: Int.self).message == number) }
        }
    }

    @Test func nodesOfManyThreadsAreNeverHandedOutTwice() {
        let rounds = 40 * RandomCases.scale
        let shared = Locked<[[MessageNode]]>([])
        onWorkers(4) { [self] _ in
            for round in 0..<rounds {
                let nodes = (0..<100).map { MessageNode.make(round * 100 + $0) }
                shared.withLock { $0.append(nodes) }
                for nodes in shared.withLock({ $0.count > 3 ? [$0.removeFirst()] : [] }) { expectWhole(nodes) }
            }
        }
        for nodes in shared.withLock({ $0 }) { expectWhole(nodes) }
    }

    /// The numbers in the nodes follow each other.
    private func expectWhole(_ nodes: [MessageNode]) {
        let numbers = nodes.map { $0.open(as: Int.self).message }
        #expect(numbers == Array(numbers[0]..<numbers[0] + nodes.count))
    }
}
