// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// One cell for each name, for as long as somebody keeps the cell.
final class Interned<Name: Hashable & Sendable, Cell: AnyObject & Sendable>: Sendable {
    private struct Slot {
        weak var cell: Cell?
        let number: Int
    }
    private struct State {
        var slots: [Name: Slot] = [:]
        var made = 0
    }
    private let state = Locked(State())

    /// How many names are known; of interest to tests.
    var count: Int { state.withLock { $0.slots.count } }

    /// The cell of a name; made if there is none.
    func cell(_ name: Name, make: () -> Cell) -> Cell {
        if let known = self[name] { return known }
        let fresh = make()
        return state.withLock { state in
            if let known = state.slots[name]?.cell { return known }
            state.made += 1
            state.slots[name] = Slot(cell: fresh, number: state.made)
            return fresh
        }
    }

    /// The cell of a name, if somebody keeps it.
    subscript(name: Name) -> Cell? { state.withLock { $0.slots[name]?.cell } }

    /// All cells that somebody keeps, in the order in which they were made.
    var all: [Cell] {
        state.withLock { $0.slots.values.compactMap { slot in slot.cell.map { (slot.number, $0) } } }
            .sorted { $0.0 < $1.0 }.map(\.1)
    }

    /// A cell died. There may be another one of its name already.
    func forget(_ name: Name) {
        let survivor = state.withLock { state -> Cell? in
            guard let slot = state.slots[name] else { return nil }
            if let cell = slot.cell { return cell }
            state.slots[name] = nil
            return nil
        }
        // This may be the last reference by now, and its end comes back here: not under the lock.
        withExtendedLifetime(survivor) {}
    }
}
