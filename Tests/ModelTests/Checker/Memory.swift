// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What each thread of a model has done by some moment, as far as the holder of this clock knows.
struct Clock {
    private var times: (UInt32, UInt32, UInt32) = (0, 0, 0)

    subscript(_ thread: Int) -> UInt32 {
        get { thread == 0 ? times.0 : thread == 1 ? times.1 : times.2 }
        set {
            if thread == 0 { times.0 = newValue } else if thread == 1 { times.1 = newValue } else { times.2 = newValue }
        }
    }

    mutating func tick(_ thread: Int) { self[thread] += 1 }

    mutating func join(_ other: Clock) {
        if other.times.0 > times.0 { times.0 = other.times.0 }
        if other.times.1 > times.1 { times.1 = other.times.1 }
        if other.times.2 > times.2 { times.2 = other.times.2 }
    }

    static func <= (one: Clock, other: Clock) -> Bool {
        one.times.0 <= other.times.0 && one.times.1 <= other.times.1 && one.times.2 <= other.times.2
    }
}

/// The memory of an atomic word.
public final class Cell {
    var value: UInt64
    /// What one learns by an acquiring read of the value.
    var clock = Clock()
    let number: Int

    init(_ value: UInt64) {
        self.value = value
        number = Model.running?.nextCellNumber() ?? 0
    }
}

/// A word of memory that is not atomic: the orderings of the atomics around it must keep accesses apart.
final class PlainCell {
    private var value: UInt
    private var writes = Clock()
    private var reads = Clock()

    init(_ value: UInt = 0) { self.value = value }

    func read() -> UInt {
        if let model = Model.running, let me = model.current {
            if !(writes <= me.clock) { model.fail("a plain read by thread \(me.index) races with a write") }
            reads[me.index] = me.clock[me.index]
        }
        return value
    }

    func write(_ new: UInt) {
        if let model = Model.running, let me = model.current {
            if !(writes <= me.clock) { model.fail("a plain write by thread \(me.index) races with a write") }
            if !(reads <= me.clock) { model.fail("a plain write by thread \(me.index) races with a read") }
            writes[me.index] = me.clock[me.index]
        }
        value = new
    }
}
