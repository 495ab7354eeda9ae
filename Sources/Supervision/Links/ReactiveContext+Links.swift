// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Monitors, links and exits of a reactive process: as those of ``Context``, and always with a closure that makes the message.
///
/// The closure runs when the message is taken out of the mailbox, as part of this process's turn; a trap in it is one of the
/// process. To be called in a handler, as everything of a context.
extension ReactiveContext {
    // MARK: Monitors

    /// Watches a process; the closure makes the message that comes when it ends. See ``Context/monitor(_:untilClosed:)``.
    @discardableResult
    public func monitor<Other: Sendable>(
        _ process: ProcRef<Other>,
        untilClosed: Bool = false,
        _ message: @escaping @Sendable (Down) -> Body.Message
    ) -> MonitorRef {
        Bonds.monitor(process.proc, untilClosed: untilClosed, by: proc, proc.incarnation, message)
    }

    /// Ends a monitor of this process. See ``Context/demonitor(_:flush:)``.
    @discardableResult
    public func demonitor(_ monitor: MonitorRef, flush: Bool = false) -> Bool {
        Bonds.existing(of: proc)?.demonitor(monitor, flush: flush) ?? false
    }

    // MARK: Links

    /// Links this process with another. See ``Context/link(_:)``. If it is ended by that, then after the message in hand.
    public func link<Other: Sendable>(_ process: ProcRef<Other>) {
        Bonds.link(process.proc, by: proc, proc.incarnation)
    }

    /// Dissolves the link with another process; nothing if there is none. See ``Context/unlink(_:)``.
    public func unlink<Other: Sendable>(_ process: ProcRef<Other>) {
        Bonds.unlink(process.proc, by: proc, proc.incarnation)
    }

    /// Traps exits from now on; the closure makes the message of each. See ``Context/trapExits()``.
    public func trapExits(_ message: @escaping @Sendable (Exit) -> Body.Message) {
        Bonds.of(proc).trapExits(true, message, of: proc, proc.incarnation)
    }

    /// Lets exits end this process again. What is in the mailbox stays there.
    public func stopTrappingExits() { Bonds.of(proc).trapExits(false, nil, of: proc, proc.incarnation) }

    /// Sends an exit to a process. See ``Context/exit(_:for:)``.
    public func exit<Other: Sendable>(_ process: ProcRef<Other>, for reason: ExitReason) {
        Bonds.exit(process.proc, for: reason, by: proc)
    }

    // MARK: Linked from the start

    /// Starts a reactive process that nobody supervises, on the same executor and with the same policy for traps, linked with this one before it
    /// handles anything. See ``Context/link(_:)``.
    public func spawnLinked<Other: Reactive>(_ body: Other) -> ProcRef<Other.Message> {
        let ref = spawn(body)
        Bonds.linkNew(ref.proc, by: proc, proc.incarnation)
        return ref
    }

    /// Starts a reactive process that nobody supervises, watched by this one from the start.
    public func spawnMonitored<Other: Reactive>(
        _ body: Other,
        _ message: @escaping @Sendable (Down) -> Body.Message
    ) -> (process: ProcRef<Other.Message>, monitor: MonitorRef) {
        let ref = spawn(body)
        return (ref, monitor(ref, message))
    }

    /// Starts an async process of a system that nobody supervises, linked with this one before it runs. See `spawn` of
    /// ``BastionSystem``.
    @discardableResult
    public func spawnLinked<Message: Sendable>(
        in system: BastionSystem,
        _ name: String? = nil,
        of type: Message.Type = (any Sendable).self,
        shutdownTime: ShutdownTime = .seconds(5),
        body: @escaping @Sendable (Context) async throws -> Void
    ) -> ProcRef<Message> {
        let spawned = system.prepareProcess(name, shutdownTime, body)
        Bonds.linkNew(spawned.proc, by: proc, proc.incarnation)
        system.start(spawned)
        return ProcRef(spawned.proc)
    }

    private func spawn<Other: Reactive>(_ body: Other) -> ProcRef<Other.Message> {
        if let system = proc.system { return system.spawn(body) }
        let spawned = LightProc.reactive(ReactiveAdapter(body), on: proc.scheduler)
        spawned.join(proc.domain)
        return ProcRef(spawned)
    }
}
