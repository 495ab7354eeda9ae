// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension Context {
    /// Has `call` called, once, in the place of being cancelled, when this incarnation is asked to stop.
    ///
    /// On a worker, in the name of the process; it must not block. When the shutdown time is over the process is killed, which
    /// cancels it, and has that time once more.
    ///
    /// - Returns: False when it was asked to stop before: nothing will be called.
    package func signalStop(by call: @escaping @Sendable () -> Void) -> Bool {
        proc.signalStop(of: incarnation, by: call)
    }
}
