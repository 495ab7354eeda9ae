// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The orderings of a load, spelled as in Synchronization.
public enum ModelLoadOrdering: Sendable {
    case relaxed
    case acquiring
    case sequentiallyConsistent
}

/// The orderings of a store, spelled as in Synchronization.
public enum ModelStoreOrdering: Sendable {
    case relaxed
    case releasing
    case sequentiallyConsistent
}

/// The orderings of a read-modify-write, spelled as in Synchronization.
public enum ModelUpdateOrdering: Sendable {
    case relaxed
    case acquiring
    case releasing
    case acquiringAndReleasing
    case sequentiallyConsistent
}

/// Stands for `Synchronization.Atomic` in the sources under test: each access is a step of the running ``Model``.
///
/// A weak exchange does not fail without reason here.
public struct Atomic<Value: FixedWidthInteger>: ~Copyable {
    let cell: Cell

    /// Creates a word.
    public init(_ value: Value) { cell = Cell(UInt64(truncatingIfNeeded: value)) }

    /// What is in memory, past the store buffers: for conditions and for checks at the end.
    var settled: Value { Value(truncatingIfNeeded: cell.value) }

    /// Loads.
    public func load(ordering: ModelLoadOrdering) -> Value {
        guard let model = Model.running, let me = model.current else { return settled }
        model.beforeAccess(to: cell)
        if let own = me.buffer.last(where: { $0.cell === cell }) {
            model.note("load word \(cell.number): \(own.value), its own")
            return Value(truncatingIfNeeded: own.value)
        }
        if ordering != .relaxed, model.mutation != .noAcquire { me.clock.join(cell.clock) }
        model.note("load word \(cell.number): \(cell.value)")
        return settled
    }

    /// Stores.
    public func store(_ value: Value, ordering: ModelStoreOrdering) {
        let bits = UInt64(truncatingIfNeeded: value)
        guard let model = Model.running, let me = model.current else {
            cell.value = bits
            return
        }
        model.beforeAccess(to: cell)
        let publishes = ordering != .relaxed && model.mutation != .noRelease
        me.buffer.append(.init(cell: cell, value: bits, clock: publishes ? me.clock : Clock()))
        if publishes { me.clock.tick(me.index) }
        model.note("store word \(cell.number): \(bits)")
        if ordering == .sequentiallyConsistent, model.mutation != .noStoreLoadFence { model.drain() }
    }

    private func modify(
        _ ordering: ModelUpdateOrdering,
        _ change: (Value) -> Value?
    ) -> (done: Bool, old: Value) {
        guard let model = Model.running, let me = model.current else {
            let old = settled
            if let new = change(old) { cell.value = UInt64(truncatingIfNeeded: new) }
            return (true, old)
        }
        model.beforeAccess(to: cell)
        model.drain()
        let old = settled
        let new = change(old)
        let acquires = ordering != .relaxed && ordering != .releasing && model.mutation != .noAcquire
        let releases = ordering != .relaxed && ordering != .acquiring && model.mutation != .noRelease
        if acquires { me.clock.join(cell.clock) }
        if let new {
            if model.mutation == .tornUpdates { model.beforeAccess(to: cell) }
            cell.value = UInt64(truncatingIfNeeded: new)
            // A read-modify-write goes on with what others published by the value it replaces.
            if releases {
                cell.clock.join(me.clock)
                me.clock.tick(me.index)
            }
        }
        model.note("update word \(cell.number): \(old)\(new.map { " -> \($0)" } ?? ", refused")")
        return (new != nil, old)
    }

    /// Exchanges.
    @discardableResult
    public func exchange(_ value: Value, ordering: ModelUpdateOrdering) -> Value {
        modify(ordering) { _ in value }.old
    }

    /// Replaces the value if it is the expected one.
    public func compareExchange(
        expected: Value,
        desired: Value,
        successOrdering: ModelUpdateOrdering,
        failureOrdering: ModelLoadOrdering
    ) -> (exchanged: Bool, original: Value) {
        var isExpected = true
        let original = modify(successOrdering, failureOrdering) { old in
            isExpected = old == expected
            return isExpected ? desired : nil
        }
        return (isExpected, original)
    }

    private func modify(
        _ success: ModelUpdateOrdering,
        _ failure: ModelLoadOrdering,
        _ change: (Value) -> Value?
    ) -> Value {
        guard let model = Model.running, let me = model.current else { return modify(success, change).old }
        // A failed exchange is a load with the failure ordering: what it should not have learnt is taken back.
        let before = me.clock
        let (done, old) = modify(success, change)
        if !done {
            me.clock = before
            if failure != .relaxed, model.mutation != .noAcquire { me.clock.join(cell.clock) }
        }
        return old
    }

    /// As `compareExchange`.
    public func weakCompareExchange(
        expected: Value,
        desired: Value,
        successOrdering: ModelUpdateOrdering,
        failureOrdering: ModelLoadOrdering
    ) -> (exchanged: Bool, original: Value) {
        compareExchange(
            expected: expected,
            desired: desired,
            successOrdering: successOrdering,
            failureOrdering: failureOrdering
        )
    }

    /// Adds, wrapping.
    @discardableResult
    public func wrappingAdd(_ operand: Value, ordering: ModelUpdateOrdering) -> (oldValue: Value, newValue: Value) {
        let old = modify(ordering) { $0 &+ operand }.old
        return (old, old &+ operand)
    }

    /// Adds; an overflow is a trap.
    @discardableResult
    public func add(_ operand: Value, ordering: ModelUpdateOrdering) -> (oldValue: Value, newValue: Value) {
        let old = modify(ordering) { $0 + operand }.old
        return (old, old + operand)
    }

    /// Subtracts; an overflow is a trap.
    @discardableResult
    public func subtract(_ operand: Value, ordering: ModelUpdateOrdering) -> (oldValue: Value, newValue: Value) {
        let old = modify(ordering) { $0 - operand }.old
        return (old, old - operand)
    }

    /// Sets bits.
    @discardableResult
    public func bitwiseOr(_ operand: Value, ordering: ModelUpdateOrdering) -> (oldValue: Value, newValue: Value) {
        let old = modify(ordering) { $0 | operand }.old
        return (old, old | operand)
    }
}
