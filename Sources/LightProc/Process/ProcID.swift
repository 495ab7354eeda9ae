// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import Synchronization

/// The identity of a process; never used again within one run of the program.
///
/// Prints as `<0.184>`: node 0 is this program.
@frozen
public struct ProcID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The number: processes made later have higher ones.
    public let rawValue: UInt64

    /// Takes a number for an id, as for one that was logged; ``next()`` makes new ones.
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    @usableFromInline
    static let counter = ProcIDCounter()

    /// Returns an id that no process of this run of the program had before.
    @inlinable
    public static func next() -> ProcID {
        // ordering: relaxed: uniqueness needs only the atomicity of the addition.
        ProcID(rawValue: UInt64(counter.word.wrappingAdd(1, ordering: .relaxed).oldValue))
    }

    /// The id as in `<0.184>`.
    public var description: String { "<0.\(rawValue)>" }

    /// Whether the left process was made before the right one.
    @inlinable
    public static func < (lhs: ProcID, rhs: ProcID) -> Bool { lhs.rawValue < rhs.rawValue }
}

/// The shared counter behind ``ProcID/next()``. 64 bits: at a billion processes a second it wraps after 580 years.
@usableFromInline
final class ProcIDCounter: Sendable {
    @usableFromInline let word = AtomicWord(1)
}
