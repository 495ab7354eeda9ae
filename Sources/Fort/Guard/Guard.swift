// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// The guard: a process that runs the program as its child, keeps its sockets, and starts it again.
///
/// It has one thread and runs nothing of the user's but the static options. Decisions are `GuardMachine`'s; `GuardProcess` does what it says.
enum Guard {
    /// Becomes the guard where one is wanted and there is none, and does not return then. Else returns the connection with it.
    ///
    /// The first process of a container gets one that only does what is its duty: collects orphans, and passes signals on.
    static func enter(_ options: FortOptions) -> GuardLink? {
        if let link = GuardLink.fromEnvironment() {
            Listeners.shared.use(link)
            return link
        }
        let isInit = getpid() == 1 && options.boundary == .inProcess
        guard options.boundary == .guarded || isInit else {
            Listeners.shared.withTable { $0.takeActivated() }
            return nil
        }
        GuardProcess(options, isInit: isInit).run()
    }
}
