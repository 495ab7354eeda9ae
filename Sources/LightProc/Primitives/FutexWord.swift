// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import CLightProc
public import Synchronization

/// A 32-bit word at a fixed address on which threads sleep.
@frozen @usableFromInline
package struct FutexWord: ~Copyable, @unchecked Sendable {
    // Sendable: the word is atomic, the pointer never changes.
    @usableFromInline let word: UnsafeMutablePointer<Atomic<UInt32>>
    @usableFromInline let ownsWord: Bool

    /// - Parameter place: Four bytes that the caller frees after this is gone; nil: of the allocator.
    @inlinable
    package init(_ value: UInt32 = 0, at place: UnsafeMutableRawPointer? = nil) {
        ownsWord = place == nil
        word = place?.bindMemory(to: Atomic<UInt32>.self, capacity: 1) ?? .allocate(capacity: 1)
        word.initialize(to: Atomic(value))
    }

    @inlinable
    deinit {
        // Memory of somebody else may be gone already; an atomic word is nothing to be taken down.
        guard ownsWord else { return }
        word.deinitialize(count: 1)
        word.deallocate()
    }

    // ordering: sequentiallyConsistent throughout: parking is rare, and its protocols look at other words too.
    @inlinable
    package var value: UInt32 { word.pointee.load(ordering: .sequentiallyConsistent) }
    @inlinable
    package func set(_ value: UInt32) { word.pointee.store(value, ordering: .sequentiallyConsistent) }
    @inlinable
    package func increment() { word.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent) }

    @inlinable
    package func exchange(_ value: UInt32) -> UInt32 { word.pointee.exchange(value, ordering: .sequentiallyConsistent) }

    /// True if the word had the first value and now has the second.
    @inlinable
    package func compareExchange(_ expected: UInt32, _ desired: UInt32) -> Bool {
        word.pointee.compareExchange(expected: expected, desired: desired, ordering: .sequentiallyConsistent).exchanged
    }

    /// Sleeps while the word has this value; may return early.
    package func blockingWait(while value: UInt32, timeout: Duration? = nil) {
        crt_futexWait(word, value, timeout.map { max($0.inNanoseconds, 1) } ?? -1)
    }

    @inlinable
    package func wake(_ count: Int32 = 1) { crt_futexWake(word, count) }
}
