// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

/// Names of processes, each of at most one at a time, in one system.
///
/// - A look-up never returns a process that had ended for good before the look-up began, and a name is free from the moment
///   at which its holder has ended, whoever has been told of that by then.
/// - A name stays with its process over restarts; a process may have several, and lives as long as it has one.
/// - All of it takes one lock and costs O(1); no code of yours runs under it.
public final class Registry: Sendable {
    private typealias Wait = OneShot<Result<Recipient, RegistryError>>
    private struct State {
        var table = NameTable()
        var waits: [NameTable.WaiterID: Wait] = [:]
    }
    private let state = Locked(State())
    private let departures: Departures
    private let executor: any ProcExecutor

    init(_ departures: Departures, executor: any ProcExecutor) {
        self.departures = departures
        self.executor = executor
    }

    /// Gives a process a name. Does nothing if it has that already.
    ///
    /// - Throws: ``RegistryError``: `nameTaken`, `processEnded`, `emptyName`.
    public func register<Message: Sendable>(_ name: String, _ ref: ProcRef<Message>) throws(RegistryError) {
        try register(name, Recipient(ref.proc))
    }

    func register(_ name: String, _ recipient: Recipient) throws(RegistryError) {
        if name.isEmpty { throw RegistryError(.emptyName, name, "a process needs a name that is not empty") }
        let proc = recipient.proc
        var ended: RegistryError {
            RegistryError(.processEnded, name, "\(proc) cannot be called \(name): it has ended for good")
        }
        // Before the table is changed: otherwise it would be there for a moment.
        if proc.hasEnded { throw ended }
        let (registration, waits) = state.withLock { state in
            let registration = state.table.register(name, recipient)
            guard case .registered(let waiters, _) = registration else { return (registration, [Wait]()) }
            return (registration, waiters.compactMap { state.waits.removeValue(forKey: $0) })
        }
        switch registration {
        case .held:
            return
        case .taken(let holder):
            throw RegistryError(.nameTaken, name, holder: holder, "the name \(name) belongs to \(holder)")
        case .registered(_, let former):
            if let former { departures.unwatch(former.proc, for: self) }
            departures.watch(proc, for: self)
            for wait in waits { wait.settle(.success(recipient)) }
            if proc.hasEnded { throw ended }
        }
    }

    /// Takes a name back. False if nobody had it.
    @discardableResult
    public func unregister(_ name: String) -> Bool { unregister(name, of: nil) }

    /// Takes a name back if this process has it. False if it has not.
    @discardableResult
    public func unregister<Message: Sendable>(_ name: String, of ref: ProcRef<Message>) -> Bool {
        unregister(name, of: ref.id)
    }

    private func unregister(_ name: String, of id: ProcID?) -> Bool {
        guard let holder = state.withLock({ $0.table.unregister(name, of: id) }) else { return false }
        departures.unwatch(holder.proc, for: self)
        return true
    }

    /// The process that has a name; nil if none has.
    ///
    /// - Throws: ``RegistryError``: `wrongMessageType` when it takes messages of another type.
    public func whereis<Message: Sendable>(
        _ name: String,
        of type: Message.Type = Message.self
    ) throws(RegistryError) -> ProcRef<Message>? {
        guard let holder = state.withLock({ $0.table.holder(of: name) }) else { return nil }
        return try Self.ref(holder, name)
    }

    /// The process that has a name, waiting for it if none has.
    ///
    /// Within a deadline of the calling task it waits no longer than that. Time is the executor's.
    /// - Throws: ``RegistryError``: `timeout`, `cancelled`, or `wrongMessageType`.
    public func whereis<Message: Sendable>(
        _ name: String,
        of type: Message.Type = Message.self,
        within time: Duration
    ) async throws(RegistryError) -> ProcRef<Message> {
        let wait = Wait()
        let (holder, id) = state.withLock { state in
            let (holder, id) = state.table.wait(for: name)
            if holder == nil { state.waits[id] = wait }
            return (holder, id)
        }
        if let holder { return try Self.ref(holder, name) }
        let limit = DeadlineScope.remaining().map { min($0, time) } ?? time
        let timer = executor.wake(after: limit) { [weak self] in
            self?.giveUp(id, RegistryError(.timeout, name, "nobody got the name \(name) within \(limit)"))
        }
        let result = await withTaskCancellationHandler {
            await wait.value()
        } onCancel: {
            giveUp(id, RegistryError(.cancelled, name, "waiting for the name \(name) was cancelled"))
        }
        timer.cancel()
        return try Self.ref(try result.get(), name)
    }

    /// All names that processes have, in order.
    public var names: [String] { state.withLock { $0.table.names } }

    /// All names of a process, in order.
    public func names<Message: Sendable>(of ref: ProcRef<Message>) -> [String] {
        state.withLock { $0.table.names(of: ref.id) }
    }

    /// How many wait for names; of interest to tests.
    var waiterCount: Int { state.withLock { $0.table.waiterCount + $0.waits.count } }

    /// How many names are kept, also of processes that have ended and of whose end the registry has not been told; of interest to
    /// tests.
    var holderCount: Int { state.withLock { $0.table.holderCount } }

    private func giveUp(_ id: NameTable.WaiterID, _ error: RegistryError) {
        let wait = state.withLock { $0.table.giveUp(id) ? $0.waits.removeValue(forKey: id) : nil }
        wait?.settle(.failure(error))
    }

    private static func ref<Message: Sendable>(
        _ holder: Recipient,
        _ name: String
    ) throws(RegistryError) -> ProcRef<Message> {
        if let ref = holder.ref(as: Message.self) { return ref }
        throw RegistryError(
            .wrongMessageType,
            name,
            holder: holder,
            "the name \(name) belongs to \(holder), which takes \(holder.messageType ?? Any.self), not \(Message.self)"
        )
    }
}

extension Registry: Roll {
    func departed(_ id: ProcID) {
        // What held the process last dies here, outside of the lock.
        _ = state.withLock { $0.table.ended(id) }
    }
}
