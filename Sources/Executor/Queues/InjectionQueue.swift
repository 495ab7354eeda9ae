// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Synchronization

/// The queue for what comes from threads that are no workers, and for what does not fit into a worker's ring.
///
/// All of it, the lock included, lies in memory of the place that it is made for.
struct InjectionQueue: ~Copyable, @unchecked Sendable {
    // Sendable: the memory is its own, and reached through a lock or atomically.
    private struct Core: ~Copyable {
        /// How many there are; written under the lock, read without it.
        let known = Atomic<Int>(0)
        let items: Locked<ItemRing>
    }
    private let core: UnsafeMutablePointer<Core>
    private let memory: NodeMemory

    /// Where the lock lies behind the core, and the bytes of both.
    private static var lockOffset: Int { 64 }
    private static var size: Int { lockOffset + Locked<ItemRing>.storageSize }

    init(_ memory: NodeMemory = .anywhere) {
        self.memory = memory
        let block = memory.allocate(byteCount: Self.size, alignment: 64)
        core = block.bindMemory(to: Core.self, capacity: 1)
        core.initialize(to: Core(items: Locked(ItemRing(memory), at: block + Self.lockOffset)))
    }

    deinit {
        core.pointee.items.withLock { $0.free() }
        core.deinitialize(count: 1)
        memory.deallocate(core, byteCount: Self.size)
    }

    /// Where it lies: the queue itself, and its items.
    var bytes: [Range<UInt>] {
        let start = UInt(bitPattern: core)
        return [start..<(start + UInt(Self.size)), core.pointee.items.withLock { $0.bytes }]
    }

    var isEmpty: Bool {
        // ordering: sequentiallyConsistent: the last look before a worker sleeps; see `IdleWorkers`.
        core.pointee.known.load(ordering: .sequentiallyConsistent) == 0
    }

    /// Whether something may be in it; a hint.
    @inline(__always)
    var mayHaveSome: Bool {
        // ordering: relaxed: a hint; the last look before sleeping is `isEmpty`.
        core.pointee.known.load(ordering: .relaxed) > 0
    }

    /// How many there are, as long as the queue lives: for who looks at each turn, one load less.
    var counter: UnsafeMutablePointer<Atomic<Int>> {
        // safety: the first member of the core, which is not moved.
        UnsafeMutableRawPointer(core).assumingMemoryBound(to: Atomic<Int>.self)
    }

    var count: Int {
        // ordering: relaxed: a statistic.
        core.pointee.known.load(ordering: .relaxed)
    }

    func push(_ item: RunItem) {
        core.pointee.items.withLock { items in
            items.append(item)
            // ordering: sequentiallyConsistent: in the queue before the submitter looks whether somebody sleeps.
            core.pointee.known.store(items.count, ordering: .sequentiallyConsistent)
        }
    }

    func push(_ more: [RunItem]) {
        core.pointee.items.withLock { items in
            for item in more { items.append(item) }
            core.pointee.known.store(items.count, ordering: .sequentiallyConsistent)
        }
    }

    /// Takes the oldest item, and moves up to half of the others, but not more than `limit`, to the end of the caller's ring:
    /// one lock for all of them.
    func pop(moving limit: Int, to ring: borrowing RunRing) -> RunItem? {
        guard mayHaveSome else { return nil }
        return core.pointee.items.withLock { items in
            defer { core.pointee.known.store(items.count, ordering: .sequentiallyConsistent) }
            let first = items.popFirst()
            for _ in 0..<min(items.count / 2, min(limit, ring.room)) {
                guard let item = items.popFirst(), ring.push(item) else {
                    preconditionFailure("impossible: there was room for it, and only the owner makes it less")
                }
            }
            return first
        }
    }

    func pop() -> RunItem? {
        guard mayHaveSome else { return nil }
        return core.pointee.items.withLock { items in
            defer { core.pointee.known.store(items.count, ordering: .sequentiallyConsistent) }
            return items.popFirst()
        }
    }
}
