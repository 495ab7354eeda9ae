// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc
import LightProc

extension ProcessRecord {
    /// Has a signal that ends the program written down here. Once, before the handlers of containment are installed: what these
    /// contain is no death.
    ///
    /// - Returns: The errno of what failed, or 0.
    func watchForDeath() -> Int32 {
        var witness = fort_deathWitness(
            processInHand: { ThreadWitness.processInHand },
            walk: { registers, low, high, frames, limit in
                guard let registers, let frames, low < high else { return 0 }
                // safety: a C word is a Swift one.
                let words = UnsafeRawPointer(registers).assumingMemoryBound(to: UInt.self)
                return ThreadWitness.walk(
                    registers: words,
                    stack: UInt(low)..<UInt(high),
                    into: frames,
                    limit: limit
                )
            }
        )
        return fort_installDeathHandlers(pointer, &witness)
    }
}
