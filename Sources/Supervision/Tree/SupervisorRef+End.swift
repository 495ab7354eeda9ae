// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import LightProc

extension SupervisorRef {
    /// Calls `done` when the supervisor has ended, with what it gave up for; nil if it did not. On a worker; must not block.
    package func whenEnded(_ done: @escaping @Sendable (_ givenUpFor: ExitReason?) -> Void) {
        supervisor.proc.whenEnded { [supervisor] _ in done(supervisor.cause) }
    }

    /// Kills all below at the same time, without waiting.
    package func kill(then done: @escaping @Sendable () -> Void) { end(kills: true, then: done) }
}
