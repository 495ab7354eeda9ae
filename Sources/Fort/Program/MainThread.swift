// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc

/// The thread that the program began with, which belongs to the main actor.
enum MainThread {
    static var isCurrent: Bool { fort_isMainThread() }

    /// Runs what is isolated to the main actor, for ever.
    static func serve() -> Never {
        fort_serveMainQueue()
        // It cannot be served: then nobody is.
        while true { pause() }
    }
}
