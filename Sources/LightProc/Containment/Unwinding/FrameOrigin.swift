// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The kind of code a frame stands in, as far as it matters for whether a trap can be contained.
package enum FrameOrigin: UInt8, Sendable, CaseIterable {
    /// malloc and its relatives: a heap lock may be held, or the heap found itself damaged.
    case allocator
    /// The dynamic loader: its lock may be held.
    case loader
    /// `swift_once`, `pthread_once`, `dispatch_once`: everyone who needs the value waits.
    case swiftOnce
    /// The part of the Swift runtime that makes type metadata: others wait for the entry that is being made.
    case swiftMetadata
    /// Where the Swift runtime cancels a task or raises its priority: handlers of the program run under the lock of that
    /// task's status, which whoever resumes the task needs.
    case swiftTaskStatus
    /// `abort`, `raise` and `pthread_kill`, through which a process ends itself.
    case libcAbort
    /// The rest of the C library.
    case libc
    /// The rest of the Swift runtime and standard library.
    case swiftRuntime
    /// The program and all other libraries.
    case program
    /// No object is mapped there: a wild jump, or code made at run time.
    case unmapped
}

/// What the origins of one thread's frames say together.
///
/// Fed from the innermost frame outwards; takes no memory and no lock.
package struct StackOrigins: Sendable {
    private enum Stage {
        /// Only the C library has been seen, as the inner parts of `raise` are.
        case atTop
        /// In the run of abort and raise frames.
        case inAbort
        /// Past the innermost frames.
        case below
    }

    /// Who called `abort` or `raise`, if the thread stands in one of them.
    ///
    /// `.swiftRuntime` is a fatal error that the runtime reports this way (a failed `as!`); `.libc` and
    /// `.allocator` are findings of damaged memory.
    package private(set) var abortCaller: FrameOrigin?
    /// Whether it was the Swift runtime or standard library that ended the thread: then it has most probably said why.
    package private(set) var isInRuntime = false
    private var stage = Stage.atTop
    private var seen: UInt16 = 0

    package init() {}

    /// Takes in the next frame outwards.
    package mutating func add(_ origin: FrameOrigin) {
        seen |= 1 << origin.rawValue
        switch (stage, origin) {
        case (.atTop, .libcAbort): stage = .inAbort
        case (.atTop, .libc), (.inAbort, .libcAbort), (.below, _): break
        case (.atTop, _):
            stage = .below
            isInRuntime = origin == .swiftRuntime
        case (.inAbort, _):
            abortCaller = origin
            isInRuntime = origin == .swiftRuntime
            stage = .below
        }
    }

    /// Whether what follows can only add to what was seen: the frames that tell who called `abort` are past.
    package var isPastTop: Bool { stage == .below }

    /// Takes in frames of which only the origins matter: a set of bits, each `1 << origin.rawValue`.
    package mutating func add(further origins: UInt16) {
        assert(isPastTop, "the innermost frames are looked at one by one")
        seen |= origins
    }

    /// Whether any frame was of an origin.
    package func contains(_ origin: FrameOrigin) -> Bool {
        seen & (1 << origin.rawValue) != 0
    }

    /// Whether the stack passes through code under a lock that the whole program needs.
    package var mayHoldSharedLock: Bool {
        contains(.allocator) || contains(.loader) || contains(.swiftOnce) || contains(.swiftMetadata)
            || contains(.swiftTaskStatus)
    }
}
