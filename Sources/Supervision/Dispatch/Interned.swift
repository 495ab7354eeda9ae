// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// One cell for each name, for as long as somebody keeps the cell.
final class Interned<Name: Hashable & Sendable, Cell: AnyObject & Sendable>: Sendable {
    private struct Slot {
        weak var cell: Cell?
    }
    private let slots = Locked<[Name: Slot]>([:])

    /// How many names are known; of interest to tests.
    var count: Int { slots.withLock { $0.count } }

    /// The cell of a name; made if there is none.
    func cell(_ name: Name, make: () -> Cell) -> Cell {
        if let known = self[name] { return known }
        let fresh = make()
        return slots.withLock { slots in
            if let known = slots[name]?.cell { return known }
            slots[name] = Slot(cell: fresh)
            return fresh
        }
    }

    /// The cell of a name, if somebody keeps it.
    subscript(name: Name) -> Cell? { slots.withLock { $0[name]?.cell } }

    /// All cells that somebody keeps, in no order.
    var all: [Cell] { slots.withLock { $0.values.compactMap(\.cell) } }

    /// A cell died. There may be another one of its name already.
    func forget(_ name: Name) {
        let survivor = slots.withLock { slots -> Cell? in
            guard let slot = slots[name] else { return nil }
            if let cell = slot.cell { return cell }
            slots[name] = nil
            return nil
        }
        // This may be the last reference by now, and its end comes back here: not under the lock.
        withExtendedLifetime(survivor) {}
    }
}
