// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// One life of one process.
struct Incarnation: Equatable, Sendable {
    let proc: ProcID
    let number: UInt32
}

/// How far the start of a child has come, as one word: a pure value.
///
/// It is about one incarnation, the last that its supervisor has started. An incarnation that was given up may run on beside the next one:
/// what it says changes nothing.
struct StartWord: Equatable {
    /// 32 bits of incarnation above the flags.
    private(set) var rawValue: UInt

    private static let awaited: UInt = 1
    private static let inStart: UInt = 2
    private static let started: UInt = 4
    private static let saidReady: UInt = 8
    private static let over: UInt = 16

    init(rawValue: UInt) { self.rawValue = rawValue }

    /// The incarnation after `last` is about to start.
    ///
    /// - Parameter isAwaited: Its supervisor waits for that.
    init(after last: UInt32, isAwaited: Bool) {
        // As `ProcState` counts.
        let incarnation = last == .max ? 1 : last + 1
        rawValue = UInt(incarnation) << 8 | (isAwaited ? Self.awaited : 0)
    }

    var incarnation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 8) }

    /// Code of the user's runs that belongs to the start, and that nothing interrupts.
    var isInStart: Bool { rawValue & Self.inStart != 0 }

    func hasStarted(_ incarnation: UInt32) -> Bool { self.incarnation == incarnation && rawValue & Self.started != 0 }

    /// Such code begins, or has returned. False if the incarnation is over.
    mutating func set(isInStart: Bool, _ incarnation: UInt32) -> Bool {
        guard isPresent(incarnation) else { return false }
        rawValue = rawValue & ~Self.inStart | (isInStart ? Self.inStart : 0)
        return true
    }

    /// It has started. True if its supervisor waits for that.
    mutating func start(_ incarnation: UInt32) -> Bool {
        guard isPresent(incarnation) else { return false }
        rawValue = rawValue & ~Self.inStart | Self.started
        return rawValue & Self.awaited != 0
    }

    /// It says that it is ready. True the first time.
    mutating func sayReady(_ incarnation: UInt32) -> Bool {
        guard isPresent(incarnation), rawValue & Self.saidReady == 0 else { return false }
        rawValue |= Self.saidReady
        return true
    }

    /// The incarnation is over. Whether it had started stays.
    mutating func end() { rawValue = rawValue & ~Self.inStart | Self.over }

    private func isPresent(_ incarnation: UInt32) -> Bool {
        self.incarnation == incarnation && rawValue & Self.over == 0
    }
}
