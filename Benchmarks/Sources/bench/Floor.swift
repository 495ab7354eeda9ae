// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization

/// The least that processes with mailboxes can cost: one thread, no sleep, no stealing, no traps, no lifecycle.
///
/// It shows what the runtime adds, in the same run of the same machine. Nothing else uses it.
enum Floor {
    static func pingPong(_ count: Int) {
        let loop = FloorLoop()
        let a = FloorProc(FloorPlayer(), FloorPlayer.handle)
        let b = FloorProc(FloorPlayer(), FloorPlayer.handle)
        a.body.assumingMemoryBound(to: FloorPlayer.self).pointee.peer = Unmanaged.passUnretained(b)
        b.body.assumingMemoryBound(to: FloorPlayer.self).pointee.peer = Unmanaged.passUnretained(a)
        a.tell(count, loop)
        withExtendedLifetime((a, b)) { loop.run() }
    }

    static func counting(_ count: Int) {
        let loop = FloorLoop()
        let counter = FloorProc(0, countUp)
        for i in 0..<count {
            counter.tell(1, loop)
            if i & 255 == 0 { loop.run() }
        }
        loop.run()
    }

    /// As `counting`, but what sends is a process too, in portions of 255: what the runtime's scenario does.
    static func countingFromProcess(_ count: Int) {
        let loop = FloorLoop()
        let counter = FloorProc(0, countUp)
        let producer = FloorProc(FloorProducer(left: count), FloorProducer.handle)
        producer.body.assumingMemoryBound(to: FloorProducer.self).pointee.counter = Unmanaged.passUnretained(counter)
        producer.body.assumingMemoryBound(to: FloorProducer.self).pointee.me = Unmanaged.passUnretained(producer)
        producer.tell(1, loop)
        withExtendedLifetime((counter, producer)) { loop.run() }
    }

    static func spawn(_ count: Int) {
        let loop = FloorLoop()
        for _ in 0..<count {
            FloorProc(0, countUp).tell(1, loop)
            loop.run()
        }
    }

    private static func countUp(_ sum: inout Int, _ message: Int, _ loop: FloorLoop) { sum &+= message }
}

private struct FloorPlayer {
    var peer: Unmanaged<FloorProc>?

    static func handle(_ body: inout FloorPlayer, _ message: Int, _ loop: FloorLoop) {
        if message > 0 { body.peer?._withUnsafeGuaranteedRef { $0.tell(message &- 1, loop) } }
    }
}

private struct FloorProducer {
    var left: Int
    var counter: Unmanaged<FloorProc>?
    var me: Unmanaged<FloorProc>?

    static func handle(_ body: inout FloorProducer, _ message: Int, _ loop: FloorLoop) {
        let portion = min(body.left, 255)
        body.left -= portion
        body.counter?._withUnsafeGuaranteedRef { for _ in 0..<portion { $0.tell(1, loop) } }
        if body.left > 0 { body.me?._withUnsafeGuaranteedRef { $0.tell(1, loop) } }
    }
}

private struct FloorNode {
    var next: UnsafeMutablePointer<FloorNode>?
    var message: Int
}

/// A stack of messages in one word, which says at the same time whether the process is in the queue.
private final class FloorProc {
    // 0: idle. 1: in the queue, or running. Else the newest message.
    let inbox = Atomic<UInt>(0)
    let body: UnsafeMutableRawPointer
    let step: (FloorProc, FloorLoop) -> Void
    private let destroy: (UnsafeMutableRawPointer) -> Void

    @inline(__always)
    init<Body>(_ body: Body, _ handle: @escaping (inout Body, Int, FloorLoop) -> Void) {
        let cell = UnsafeMutablePointer<Body>.allocate(capacity: 1)
        cell.initialize(to: body)
        self.body = UnsafeMutableRawPointer(cell)
        destroy = { $0.assumingMemoryBound(to: Body.self).deallocate() }
        step = { proc, loop in
            let cell = proc.body.assumingMemoryBound(to: Body.self)
            let bits = proc.inbox.exchange(1, ordering: .acquiring)
            var newest = bits <= 1 ? nil : UnsafeMutablePointer<FloorNode>(bitPattern: bits)
            var oldest: UnsafeMutablePointer<FloorNode>?
            while let node = newest {
                newest = node.pointee.next
                node.pointee.next = oldest
                oldest = node
            }
            while let node = oldest {
                oldest = node.pointee.next
                let message = node.pointee.message
                loop.giveBack(node)
                handle(&cell.pointee, message, loop)
            }
            if !proc.inbox.compareExchange(expected: 1, desired: 0, ordering: .acquiringAndReleasing).exchanged {
                loop.add(proc)
            }
        }
    }

    deinit { destroy(body) }

    @inline(__always)
    func tell(_ message: Int, _ loop: FloorLoop) {
        let node = loop.makeNode()
        var seen = inbox.load(ordering: .relaxed)
        while true {
            node.initialize(
                to: FloorNode(next: seen <= 1 ? nil : UnsafeMutablePointer(bitPattern: seen), message: message)
            )
            let (done, original) = inbox.weakCompareExchange(
                expected: seen,
                desired: UInt(bitPattern: node),
                successOrdering: .releasing,
                failureOrdering: .relaxed
            )
            if done { break }
            seen = original
        }
        if seen == 0 { loop.add(self) }
    }
}

/// The queue: two places, which is all that these scenarios need, and free nodes.
private struct FloorLoop {
    private struct State {
        var next: Unmanaged<FloorProc>?
        var later: Unmanaged<FloorProc>?
        var free: UnsafeMutablePointer<FloorNode>?
    }
    // Never freed: a few words for each run of a benchmark.
    private let state: UnsafeMutablePointer<State>

    init() {
        state = .allocate(capacity: 1)
        state.initialize(to: State())
    }

    @inline(__always)
    func makeNode() -> UnsafeMutablePointer<FloorNode> {
        guard let node = state.pointee.free else { return .allocate(capacity: 1) }
        state.pointee.free = node.pointee.next
        return node
    }

    @inline(__always)
    func giveBack(_ node: UnsafeMutablePointer<FloorNode>) {
        node.pointee.next = state.pointee.free
        state.pointee.free = node
    }

    @inline(__always)
    func add(_ proc: FloorProc) {
        if state.pointee.next == nil {
            state.pointee.next = .passRetained(proc)
        } else {
            precondition(state.pointee.later == nil, "the floor has two places in its queue")
            state.pointee.later = .passRetained(proc)
        }
    }

    func run() {
        repeat {
            while let proc = state.pointee.next {
                state.pointee.next = nil
                proc._withUnsafeGuaranteedRef { $0.step($0, self) }
                proc.release()
            }
            state.pointee.next = state.pointee.later
            state.pointee.later = nil
        } while state.pointee.next != nil
    }
}
