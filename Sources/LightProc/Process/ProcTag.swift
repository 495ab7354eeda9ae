// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How urgent a process is, compared with others that are ready to run.
///
/// It decides whose turn is next, never for how long: a run has the same budget at every priority. Nothing starves: of 16
/// turns in a row at most 15 are given to processes of high priority while others wait, and of 64 at least one to one of
/// low priority.
public enum ProcPriority: UInt8, Sendable, Hashable, CaseIterable {
    /// The turn of most processes: what was woken last on a worker runs there next, the others in order.
    case normal = 0
    /// Before the others, in the order in which they became ready.
    case high = 1
    /// When nothing else waits, and now and then when something does.
    case low = 2
}

/// What a process is, in one word: its number, who ran it last, its priority and its kind.
///
/// From the lowest bit: 1 whether it is reactive, 2 priority, 10 the worker that ran it last (plus one; 0 for none), 1 whether its
/// messages go through a queue of the layer above, 1 whether it is pinned, 49 the number. At a million processes a second the
/// numbers last for 17 years; then the program ends rather than use one again. Of a pinned process the 10 bits are those of the
/// set that it is pinned to.
@frozen @usableFromInline
package struct ProcTag {
    @usableFromInline package var rawValue: UInt

    @inlinable @inline(__always)
    package init(rawValue: UInt) { self.rawValue = rawValue }

    @inlinable @inline(__always)
    init(id: ProcID, isReactive: Bool) {
        rawValue = UInt(id.rawValue) << Self.idShift | (isReactive ? 1 : 0)
    }

    @inlinable static var idShift: UInt { @inline(__always) get { 15 } }
    @inlinable static var priorityShift: UInt { @inline(__always) get { 1 } }
    @inlinable static var priorityMask: UInt { @inline(__always) get { 0b11 << priorityShift } }
    @inlinable static var managedBit: UInt { @inline(__always) get { 1 << 13 } }
    @inlinable static var pinnedBit: UInt { @inline(__always) get { 1 << 14 } }
    @inlinable static var workerShift: UInt { @inline(__always) get { 3 } }
    @inlinable static var workerMask: UInt { @inline(__always) get { 0x3ff << workerShift } }

    @inlinable
    var id: ProcID { @inline(__always) get { ProcID(rawValue: UInt64(rawValue >> Self.idShift)) } }

    @inlinable
    var isReactive: Bool { @inline(__always) get { rawValue & 1 != 0 } }

    /// Set before anybody else knows the process.
    @inlinable
    package var isManaged: Bool { @inline(__always) get { rawValue & Self.managedBit != 0 } }

    /// Whether messages go into the mailbox as they are: a reactive process that is not managed.
    @inlinable
    package var takesMessagesBare: Bool { @inline(__always) get { rawValue & (Self.managedBit | 1) == 1 } }

    package var priority: ProcPriority {
        get { ProcPriority(rawValue: UInt8(rawValue >> Self.priorityShift & 0b11)) ?? .normal }
        set { rawValue = rawValue & ~Self.priorityMask | UInt(newValue.rawValue) << Self.priorityShift }
    }

    /// Which worker ran it last; nil before the first run, if that worker's index is too large to be kept, or if it is pinned.
    package var worker: Int? {
        let bits = rawValue & Self.workerMask
        return bits == 0 || isPinned ? nil : Int(bits >> Self.workerShift) - 1
    }

    /// Whether only some workers may run it. Set before anybody else knows the process.
    @inlinable
    package var isPinned: Bool { @inline(__always) get { rawValue & Self.pinnedBit != 0 } }

    /// The scheduler's number of the set of workers that may run it, from 0; nil if all may. Never taken back.
    package var pin: Int? {
        get { isPinned ? Int((rawValue & Self.workerMask) >> Self.workerShift) : nil }
        set {
            guard let newValue else { return }
            precondition(newValue < Self.pinCount, "impossible: a scheduler has at most \(Self.pinCount) sets")
            rawValue = rawValue & ~Self.workerMask | Self.pinnedBit | UInt(newValue) << Self.workerShift
        }
    }

    /// So many sets a scheduler may tell apart.
    package static var pinCount: Int { 1 << 10 }

    /// The bits that say that a worker ran a process last; 0 for an index that does not fit.
    package static func home(ofWorker index: Int) -> UInt {
        index < 0x3ff ? UInt(index + 1) << workerShift : 0
    }

    /// Which bits of a tag have to be those of a worker's home for a process to be queued on that worker without asking.
    ///
    /// The priority, and that it is not pinned, always; and, where memory is not equally near to all workers, who ran it last.
    package static func homeMask(comparesWorkers: Bool) -> UInt {
        priorityMask | pinnedBit | (comparesWorkers ? workerMask : 0)
    }
}
