// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The children of a supervisor in the order in which they start: a pure value.
///
/// Finding, adding and removing one costs the same however many there are.
struct ChildList: Sendable {
    typealias ID = SupervisorMachine.ChildID

    enum State: Equatable, Sendable {
        /// It is specified; nothing runs, and nobody is about to start it.
        case down
        /// Its turn to start will come. Nothing runs.
        case queued
        /// It was started, and has not said yet that it has.
        case starting
        /// It runs.
        case up(since: Duration)
        /// It waits for its backoff to elapse. Nothing runs.
        case waiting
        /// It was asked to stop.
        case stopping
        /// It ended, and its farewell is being said. Nothing runs.
        case retiring
    }

    /// What becomes of a child that is to end.
    enum Fate: Int, Comparable, Sendable {
        /// It starts again in its turn.
        case queued
        /// It stays down.
        case down
        /// It is gone.
        case gone

        static func < (lhs: Fate, rhs: Fate) -> Bool { lhs.rawValue < rhs.rawValue }
    }

    /// A child and what is known of it.
    struct Child: Sendable {
        let id: ID
        /// Greater than that of every child that starts before it.
        let ordinal: UInt64
        var settings: SupervisorMachine.Settings
        fileprivate(set) var state = State.queued
        /// How it is to end; nil while it is not.
        var fate: Fate?
        /// Counts waits: what is said of one that is over is late.
        var generation: UInt32 = 0
        /// Counts starts, likewise.
        var starts: UInt32 = 0
        var failuresInARow: UInt32 = 0
        /// How often it was restarted since it was added.
        var restarts: UInt32 = 0
        /// The time for its start is up, and it was told to end for that; or it has, and something below it has not.
        var hasFailedToStart = false
        /// It was told to stop, or has failed to start, and has not ended although the time for that is up.
        var isLate = false
        /// It has started once since it was added.
        var hasStarted = false
        /// Somebody wanted it to be down, and nobody has started it since.
        var wasTerminated = false
        /// The start that goes on was asked for, and is not tried again.
        var isManual = false
        fileprivate var previous: Int32 = -1
        fileprivate var next: Int32 = -1

        /// It is not restarted any more.
        var isExhausted: Bool { settings.restartLimit.map { restarts >= $0 } ?? false }

        /// Neither runs nor will, unless somebody asks for it.
        fileprivate var isOver: Bool { state == .down || state == .retiring }
    }

    private var slots: [Child?] = []
    private var free: [Int32] = []
    private var indices: [ID: Int32] = [:]
    private var head: Int32 = -1
    private var tail: Int32 = -1
    private var lastOrdinal: UInt64 = 0
    /// Significant children that have not ended.
    private(set) var significant = 0
    /// Children that were told to stop, and have not ended.
    private(set) var stopping = 0

    var count: Int { indices.count }
    var first: Int? { head < 0 ? nil : Int(head) }

    func index(of id: ID) -> Int? { indices[id].map(Int.init) }

    /// - Precondition: There is a child at the index.
    subscript(index: Int) -> Child {
        _read {
            guard slots[index] != nil else { preconditionFailure("impossible: no child has this index") }
            yield slots[index].unsafelyUnwrapped
        }
        _modify {
            guard slots[index] != nil else { preconditionFailure("impossible: no child has this index") }
            yield &slots[index]!
        }
    }

    func after(_ index: Int) -> Int? {
        let next = self[index].next
        return next < 0 ? nil : Int(next)
    }

    /// The indices of a child and all behind it, in order.
    func indices(from index: Int?) -> [Int] {
        var result: [Int] = []
        var next = index
        while let index = next {
            result.append(index)
            next = after(index)
        }
        return result
    }

    /// Adds a child behind all others, queued.
    ///
    /// - Returns: False if there is one with this id.
    mutating func append(_ id: ID, _ settings: SupervisorMachine.Settings) -> Bool {
        guard indices[id] == nil else { return false }
        lastOrdinal += 1
        var child = Child(id: id, ordinal: lastOrdinal, settings: settings)
        child.previous = tail
        let index: Int32
        if let reused = free.popLast() {
            index = reused
            slots[Int(index)] = child
        } else {
            index = Int32(slots.count)
            slots.append(child)
        }
        indices[id] = index
        if tail < 0 { head = index } else { self[Int(tail)].next = index }
        tail = index
        if settings.isSignificant { significant += 1 }
        return true
    }

    mutating func remove(at index: Int) {
        let child = self[index]
        if child.previous < 0 { head = child.next } else { self[Int(child.previous)].next = child.next }
        if child.next < 0 { tail = child.previous } else { self[Int(child.next)].previous = child.previous }
        if child.settings.isSignificant, !child.isOver { significant -= 1 }
        if child.state == .stopping { stopping -= 1 }
        slots[index] = nil
        indices[child.id] = nil
        free.append(Int32(index))
    }

    mutating func set(_ state: State, at index: Int) {
        let wasOver = self[index].isOver
        stopping += (state == .stopping ? 1 : 0) - (self[index].state == .stopping ? 1 : 0)
        self[index].state = state
        guard self[index].settings.isSignificant, self[index].isOver != wasOver else { return }
        significant += wasOver ? 1 : -1
    }

    mutating func change(_ settings: SupervisorMachine.Settings, at index: Int) {
        if !self[index].isOver {
            significant += (settings.isSignificant ? 1 : 0) - (self[index].settings.isSignificant ? 1 : 0)
        }
        self[index].settings = settings
    }
}
