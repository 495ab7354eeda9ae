// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Monitors, links and exits of an async process.
///
/// They belong to the incarnation: when it ends, whatever the reason, its monitors are over and its links have had their effect.
/// Where a closure is given, it makes the message of what happened, when that is taken out of the mailbox, in the name of this
/// process. Without one the message is the ``Down`` or ``Exit`` itself, for `receive(Down.self)`.
///
/// What is told lies in the user lane behind every message that the process which ended had sent before its end was decided,
/// also with a managed mailbox (there: behind as many as waited). It is never refused, and no dead letter if nobody takes it.
extension Context {
    // MARK: Monitors

    /// Watches a process: a ``Down`` comes when its present incarnation ends, once, as soon as that is decided.
    ///
    /// If it is over, also between two incarnations, that comes at once, with the reason ``LightProc/ExitReason/noProcess``. One
    /// that has not been started yet is watched from its start on. Costs a lock of each process. Any task of this process.
    /// - Parameter untilClosed: Whether to watch it over restarts, until it has ended for good.
    @discardableResult
    public func monitor<Other: Sendable>(_ process: ProcRef<Other>, untilClosed: Bool = false) -> MonitorRef {
        Bonds.monitor(process.proc, untilClosed: untilClosed, by: proc, incarnation, nil)
    }

    /// Watches a process; the closure makes the message that comes when it ends. See ``monitor(_:untilClosed:)``.
    @discardableResult
    public func monitor<Other: Sendable, Message: Sendable>(
        _ process: ProcRef<Other>,
        untilClosed: Bool = false,
        _ message: @escaping @Sendable (Down) -> Message
    ) -> MonitorRef {
        Bonds.monitor(process.proc, untilClosed: untilClosed, by: proc, incarnation, message)
    }

    /// Ends a monitor of this process: nothing more is sent on its account.
    ///
    /// - Parameter flush: Whether its message is withdrawn if it is in the mailbox already: then none is received any more.
    /// - Returns: Whether the monitor was still waiting: nothing was sent on its account, and nothing will be.
    @discardableResult
    public func demonitor(_ monitor: MonitorRef, flush: Bool = false) -> Bool {
        Bonds.existing(of: proc)?.demonitor(monitor, flush: flush) ?? false
    }

    // MARK: Links

    /// Links this process with another: when the present incarnation of one ends, except normally, the other is ended with
    /// ``LightProc/ExitReason/linked(_:_:)``, as by a kill, unless it traps exits. Of one that was shut down: with `shutdown`, too.
    ///
    /// The link is symmetrical, and one for each two processes. It is gone when either incarnation has ended. Linking with a process
    /// that is over has the effect of its end, for the reason ``LightProc/ExitReason/noProcess``, at once. Of a process whose last
    /// reference is dropped while it is idle only who traps exits is told. Costs a lock of each process.
    public func link<Other: Sendable>(_ process: ProcRef<Other>) { Bonds.link(process.proc, by: proc, incarnation) }

    /// Dissolves the link with another process; nothing if there is none.
    ///
    /// When it returns, the link has no effect on this process any more: an ``Exit`` of it that is in the mailbox is withdrawn. If
    /// its effect came first, this incarnation has been ended.
    public func unlink<Other: Sendable>(_ process: ProcRef<Other>) { Bonds.unlink(process.proc, by: proc, incarnation) }

    /// Traps exits from now on: each comes as a message, an ``Exit``, instead of ending this process.
    ///
    /// Of links those come, too, whose process ended normally. A ``LightProc/LightProc/kill()`` cannot be trapped. Holds for this
    /// incarnation, and for its links of before, too.
    public func trapExits() { Bonds.of(proc).trapExits(true, nil, of: proc, incarnation) }

    /// Traps exits from now on; the closure makes the message of each. See ``trapExits()``.
    public func trapExits<Message: Sendable>(_ message: @escaping @Sendable (Exit) -> Message) {
        Bonds.of(proc).trapExits(true, message, of: proc, incarnation)
    }

    /// Lets exits end this process again. What is in the mailbox stays there.
    public func stopTrappingExits() { Bonds.of(proc).trapExits(false, nil, of: proc, incarnation) }

    /// Sends an exit to a process, as if one that it is linked to had ended.
    ///
    /// It ends with this very reason, as by a kill, unless it traps exits, when it gets an ``Exit``. `killed` cannot be trapped;
    /// `normal` does nothing to another process that does not trap. Nothing happens to one that is over.
    public func exit<Other: Sendable>(_ process: ProcRef<Other>, for reason: ExitReason) {
        Bonds.exit(process.proc, for: reason, by: proc)
    }

    // MARK: Linked from the start

    /// Starts a reactive process that nobody supervises, linked with this one before it handles anything. See ``link(_:)``.
    ///
    /// If this incarnation is over, so is the new process.
    public func spawnLinked<Body: Reactive>(_ body: Body) -> ProcRef<Body.Message> {
        let ref = system.spawn(body)
        Bonds.linkNew(ref.proc, by: proc, incarnation)
        return ref
    }

    /// Starts a reactive process that nobody supervises, watched by this one from the start. See ``monitor(_:untilClosed:)``.
    public func spawnMonitored<Body: Reactive>(_ body: Body) -> (process: ProcRef<Body.Message>, monitor: MonitorRef) {
        let ref = system.spawn(body)
        return (ref, monitor(ref))
    }

    /// As above; the closure makes the message that comes when it ends.
    public func spawnMonitored<Body: Reactive, Message: Sendable>(
        _ body: Body,
        _ message: @escaping @Sendable (Down) -> Message
    ) -> (process: ProcRef<Body.Message>, monitor: MonitorRef) {
        let ref = system.spawn(body)
        return (ref, monitor(ref, message))
    }

    /// Starts an async process that nobody supervises, linked with this one before it runs. See `spawn` of ``BastionSystem``.
    ///
    /// If this incarnation is over, the new process never runs.
    @discardableResult
    public func spawnLinked<Message: Sendable>(
        _ name: String? = nil,
        of type: Message.Type = (any Sendable).self,
        shutdownTime: ShutdownTime = .seconds(5),
        body: @escaping @Sendable (Context) async throws -> Void
    ) -> ProcRef<Message> {
        let spawned = system.prepareProcess(name, shutdownTime, body)
        Bonds.linkNew(spawned.proc, by: proc, incarnation)
        system.start(spawned)
        return ProcRef(spawned.proc)
    }

    /// Starts an async process that nobody supervises, watched by this one before it runs.
    @discardableResult
    public func spawnMonitored<Message: Sendable>(
        _ name: String? = nil,
        of type: Message.Type = (any Sendable).self,
        shutdownTime: ShutdownTime = .seconds(5),
        body: @escaping @Sendable (Context) async throws -> Void
    ) -> (process: ProcRef<Message>, monitor: MonitorRef) {
        let spawned = system.prepareProcess(name, shutdownTime, body)
        let ref = ProcRef<Message>(spawned.proc)
        let monitor = monitor(ref)
        system.start(spawned)
        return (ref, monitor)
    }
}
