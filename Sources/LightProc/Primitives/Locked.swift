// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import CLightProc
public import Glibc

/// A value that is only reachable while a lock is held.
///
/// The lock is a pthread mutex: ThreadSanitizer understands it, which it does not of `Synchronization.Mutex` on Linux.
/// Code under the lock never calls user code and never awaits; a trap under it cannot be contained, because the others
/// would wait for the lock for ever (the thread's critical depth tells the signal handler so).
@usableFromInline
package struct Locked<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
    // Sendable: `value` is touched only between lock and unlock.
    @usableFromInline
    struct Storage: ~Copyable {
        @usableFromInline var mutex = pthread_mutex_t()
        @usableFromInline var value: Value
        @inlinable
        init(value: consuming Value) { self.value = value }
    }
    @usableFromInline let storage: UnsafeMutablePointer<Storage>
    @usableFromInline let ownsStorage: Bool

    /// - Parameters:
    ///   - onOwnCacheLines: Whether nothing else is to share the cache lines of lock and value.
    ///   - place: Memory of ``storageSize`` bytes, aligned to 64, that the caller frees after the lock is gone; nil: of the
    ///     allocator.
    @inlinable
    package init(
        _ value: consuming sending Value,
        onOwnCacheLines: Bool = false,
        at place: UnsafeMutableRawPointer? = nil
    ) {
        ownsStorage = place == nil
        // Lines of 64 bytes, which processors fetch in pairs.
        let alignment = max(MemoryLayout<Storage>.alignment, onOwnCacheLines ? 128 : 16)
        let size = (MemoryLayout<Storage>.size + alignment - 1) / alignment * alignment
        storage = (place ?? UnsafeMutableRawPointer.allocate(byteCount: size, alignment: alignment))
            .bindMemory(to: Storage.self, capacity: 1)
        Self.initialize(storage, to: value)
    }

    @inlinable
    deinit {
        Self.deinitialize(storage)
        if ownsStorage { UnsafeMutableRawPointer(storage).deallocate() }
    }

    /// Bytes of the lock and the value.
    package static var storageSize: Int { MemoryLayout<Storage>.size }

    /// Calls `body` with the value while the lock is held.
    @inlinable @inline(__always)
    package func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try Self.withLock(storage, body)
    }

    // MARK: In a place of the caller's

    @inlinable @inline(__always)
    static func initialize(_ storage: UnsafeMutablePointer<Storage>, to value: consuming sending Value) {
        storage.initialize(to: Storage(value: value))
        let status = pthread_mutex_init(&storage.pointee.mutex, nil)
        // Default attributes can only fail for lack of memory, and then the allocation before failed first.
        precondition(status == 0, "pthread_mutex_init failed with \(status)")
    }

    @inlinable @inline(__always)
    static func deinitialize(_ storage: UnsafeMutablePointer<Storage>) {
        pthread_mutex_destroy(&storage.pointee.mutex)
        storage.deinitialize(count: 1)
    }

    @inlinable @inline(__always)
    static func withLock<Result, Failure: Error>(
        _ storage: UnsafeMutablePointer<Storage>,
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        crt_enterCritical()
        pthread_mutex_lock(&storage.pointee.mutex)
        defer {
            pthread_mutex_unlock(&storage.pointee.mutex)
            crt_leaveCritical()
        }
        return try body(&storage.pointee.value)
    }
}
