// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import CLightProc
import Synchronization

/// The identity of a process; never used again within one run of the program.
///
/// Prints as `<0.184>`: node 0 is this program.
@frozen
public struct ProcID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The number. Those that one thread makes grow; workers take theirs in small blocks.
    public let rawValue: UInt64

    /// Takes a number for an id, as for one that was logged; ``next()`` makes new ones.
    @inlinable
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    private static let counter = ProcIDCounter()

    /// Returns an id that no process of this run of the program had before.
    @inlinable
    public static func next() -> ProcID {
        guard let nodes = crt_nodes() else { return ProcID(rawValue: take(1)) }
        if nodes.pointee.nextID == nodes.pointee.endID {
            nodes.pointee.nextID = take(block)
            nodes.pointee.endID = nodes.pointee.nextID &+ block
        }
        defer { nodes.pointee.nextID &+= 1 }
        return ProcID(rawValue: nodes.pointee.nextID)
    }

    /// So many numbers a worker takes at a time: few enough to keep them short.
    @usableFromInline static var block: UInt64 { 64 }

    @inline(never) @usableFromInline
    static func take(_ count: UInt64) -> UInt64 {
        // ordering: relaxed: uniqueness needs only the atomicity of the addition.
        let number = UInt64(counter.word.wrappingAdd(UInt(count), ordering: .relaxed).oldValue)
        precondition(number < limit, "no process ids are left: this program has made 2^49 processes; restart it")
        return number
    }

    /// A ``ProcTag`` has room for so many.
    private static var limit: UInt64 { 1 << 49 - (1 << 20) }

    /// The id as in `<0.184>`.
    public var description: String { "<0.\(rawValue)>" }

    /// By number; of two processes that one thread made, the earlier comes first.
    @inlinable
    public static func < (lhs: ProcID, rhs: ProcID) -> Bool { lhs.rawValue < rhs.rawValue }
}

/// The shared counter behind ``ProcID/next()``.
private final class ProcIDCounter: Sendable {
    let word = AtomicWord(1)
}
