// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// A hold on an exit hook: takes it back.
public struct ExitHookToken: Sendable {
    private let registration: ExitRegistration?

    init(_ registration: ExitRegistration?) { self.registration = registration }

    /// Takes the hook back: it will not be called. Any thread.
    ///
    /// - Returns: False when it was called, is about to be, or was taken back before.
    @discardableResult
    public func cancel() -> Bool { registration?.take() != nil }
}

/// A file descriptor that a process owns: closed when the incarnation ends, whatever the reason, or earlier by hand.
///
/// A body may keep it; copies stand for the same descriptor. It is closed once, whoever comes first.
public struct OwnedDescriptor: Sendable {
    /// The number of the descriptor. Not to be used after it was closed: the number may be another file's then.
    public let fileDescriptor: Int32
    private let registration: ExitRegistration?

    init(_ fileDescriptor: Int32, _ registration: ExitRegistration?) {
        self.fileDescriptor = fileDescriptor
        self.registration = registration
    }

    /// What became of an attempt to close it.
    public enum Closing: Sendable, Hashable {
        /// This call closed it.
        case closed
        /// This call closed it, and the kernel told of an error with this `errno`: EIO, ENOSPC or EDQUOT when data that
        /// was written before is lost, EINTR when it does not know yet. EBADF: somebody else had closed it.
        case failed(errno: Int32)
        /// It is not the process's any more: closed before, by the end of the incarnation perhaps, or given up.
        case notOwned
    }

    /// Closes it now, on the calling thread, and gives it up.
    @discardableResult
    public func close() -> Closing {
        guard registration?.take() != nil else { return .notOwned }
        return Self.close(fileDescriptor)
    }

    /// Gives it up without closing it: from here on it is the caller's.
    ///
    /// - Returns: False when it was closed or given up before.
    @discardableResult
    public func disown() -> Bool { registration?.take() != nil }

    /// Closes a descriptor, once.
    @discardableResult
    static func close(_ fileDescriptor: Int32) -> Closing {
        // Not tried again on EINTR: on Linux the descriptor is gone by then, and the number may be another file's.
        Glibc.close(fileDescriptor) == 0 ? .closed : .failed(errno: errno)
    }
}

/// A value that a process owns: released when the incarnation ends, whatever the reason, or earlier by hand.
///
/// A body may keep it; copies stand for the same value. It is released once, whoever comes first.
public struct OwnedResource<Value: Sendable>: Sendable {
    /// What is owned. Not to be used after it was released.
    public let value: Value
    private let registration: ExitRegistration?

    init(_ value: Value, _ registration: ExitRegistration?) {
        self.value = value
        self.registration = registration
    }

    /// Releases it now, on the calling thread.
    ///
    /// - Returns: False when it is not the process's any more.
    @discardableResult
    public func release() -> Bool {
        guard let release = registration?.take() else { return false }
        release(.normal)
        return true
    }

    /// Gives it up without releasing it: from here on it is the caller's.
    ///
    /// - Returns: False when it was released or given up before.
    @discardableResult
    public func disown() -> Bool { registration?.take() != nil }
}

extension LightProc {
    /// Makes a file descriptor the process's own: it is closed when this incarnation ends, for whatever reason.
    ///
    /// After a return, an error, a trap, a kill and a failed start alike, on a worker and in the name of the process, what
    /// was acquired last first, in one order with the exit hooks. Between two incarnations it belongs to the next one. On one
    /// that is over it is closed at once, on the calling thread. Any thread; costs an allocation and a lock.
    /// - Precondition: The descriptor is open, and nobody else closes it.
    @discardableResult
    public func own(fileDescriptor: Int32) -> OwnedDescriptor { own(fileDescriptor: fileDescriptor, of: nil) }

    /// Makes a value the process's own: `release` is called when this incarnation ends, for whatever reason.
    ///
    /// As ``own(fileDescriptor:)``. A release that traps ends itself only: the others follow. On an incarnation that is over
    /// it is called at once, on a worker, as a process of its own.
    @discardableResult
    public func own<Value: Sendable>(
        _ value: Value,
        release: @escaping @Sendable (Value) -> Void
    ) -> OwnedResource<Value> {
        own(value, of: nil, release: release)
    }

    package func own(fileDescriptor: Int32, of incarnation: UInt32?) -> OwnedDescriptor {
        precondition(fileDescriptor >= 0, "a file descriptor must not be negative, got \(fileDescriptor)")
        let registration = register(for: incarnation) { _ in OwnedDescriptor.close(fileDescriptor) }
        if registration == nil { OwnedDescriptor.close(fileDescriptor) }
        return OwnedDescriptor(fileDescriptor, registration)
    }

    package func own<Value: Sendable>(
        _ value: Value,
        of incarnation: UInt32?,
        release: @escaping @Sendable (Value) -> Void
    ) -> OwnedResource<Value> {
        OwnedResource(value, registerOrRun(for: incarnation) { _ in release(value) })
    }
}
