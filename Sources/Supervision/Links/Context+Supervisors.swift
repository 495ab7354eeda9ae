// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Monitors of supervisors, and links with them: as those of processes, but that a supervisor never ends by them.
///
/// A supervisor ends once: when all of its children have ended and its `afterStop` has returned, with `shutdown` if it was
/// stopped, and otherwise with what it gave up for, ``LightProc/ExitReason/linked(_:_:)`` with the child that failed last.
extension Context {
    /// Watches a supervisor: a ``Down`` comes when it has ended, once; at once, with `noProcess`, if it has.
    @discardableResult
    public func monitor(_ supervisor: SupervisorRef) -> MonitorRef {
        Bonds.monitor(supervisor.supervisor.proc, untilClosed: false, by: proc, incarnation, nil)
    }

    /// Watches a supervisor; the closure makes the message that comes when it has ended. See ``monitor(_:)``.
    @discardableResult
    public func monitor<Message: Sendable>(
        _ supervisor: SupervisorRef,
        _ message: @escaping @Sendable (Down) -> Message
    ) -> MonitorRef {
        Bonds.monitor(supervisor.supervisor.proc, untilClosed: false, by: proc, incarnation, message)
    }

    /// Links this process with a supervisor: when that has ended, this process is ended with `shutdown`, also when the supervisor
    /// gave up, unless it traps exits.
    ///
    /// The other way round nothing happens, as a supervisor traps exits; one that is to end with this process is started by
    /// ``supervise(_:intensity:callbacks:_:)``, which needs no link. With a supervisor that has ended: as ``link(_:)-(ProcRef<Other>)``.
    public func link(_ supervisor: SupervisorRef) { Bonds.link(supervisor.supervisor, by: proc, incarnation) }

    /// Dissolves the link with a supervisor; nothing if there is none.
    public func unlink(_ supervisor: SupervisorRef) { Bonds.unlink(supervisor.supervisor.proc, by: proc, incarnation) }
}

extension ReactiveContext {
    /// Watches a supervisor; the closure makes the message that comes when it has ended. See ``Context/monitor(_:)``.
    @discardableResult
    public func monitor(
        _ supervisor: SupervisorRef,
        _ message: @escaping @Sendable (Down) -> Body.Message
    ) -> MonitorRef {
        Bonds.monitor(supervisor.supervisor.proc, untilClosed: false, by: proc, proc.incarnation, message)
    }

    /// Links this process with a supervisor. See ``Context/link(_:)-(SupervisorRef)``.
    public func link(_ supervisor: SupervisorRef) { Bonds.link(supervisor.supervisor, by: proc, proc.incarnation) }

    /// Dissolves the link with a supervisor; nothing if there is none.
    public func unlink(_ supervisor: SupervisorRef) {
        Bonds.unlink(supervisor.supervisor.proc, by: proc, proc.incarnation)
    }
}
