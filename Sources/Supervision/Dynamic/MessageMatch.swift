// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A message on its way through the arms that may take it: the first that fits, in the order written, is called, at once.
///
/// ```swift
/// message.onTell(String.self) { text, sender in print("\(text) from \(sender)") }
///     .onQuestion(Int.self) { n, reply in reply(n * 2) }
///     .onBroadcast(Shutdown.self) { _ in context.stop() }
///     .onFallback { unknown in context.deadLetter(unknown) }
/// ```
///
/// All arms return the same type; ``onFallback(_:)-(_)`` or ``result()`` hand out what the one that was called returned. A message
/// that no arm took is a dead letter (`unhandled`) when the value is dropped. Arms run on the caller's thread, as part of the calling
/// code; what they throw is thrown on. An arm costs a comparison of two types, more for one that the message is not exactly of.
public struct MessageMatch<Output>: ~Copyable {
    /// The message, while no arm has taken it.
    private var open: AnyMessage?
    private var output: Output?

    init(_ message: AnyMessage) { open = message }

    deinit {
        if let open { open.becomesDeadLetter(.unhandled) }
    }

    /// The message if it was told and is of a type.
    private func told<Value: Sendable>(_ type: Value.Type) -> (Value, RefAddr)? {
        guard let open, open.kind == .tell, let value = Envelope(message: open.payload).message(as: type) else {
            return nil
        }
        return (value, open.sender)
    }

    private func asked<Value: Sendable>(_ type: Value.Type) -> (Value, AnyReply)? {
        guard let open, open.kind == .ask, let reply = open.reply,
            let value = Envelope(message: open.payload).message(as: type)
        else { return nil }
        return (value, reply)
    }

    private func shared<Value: Sendable>(_ type: Value.Type) -> (Value, RefAddr)? {
        guard let open, open.kind == .broadcast, let value = Envelope(message: open.payload).message(as: type) else {
            return nil
        }
        return (value, open.sender)
    }

    // MARK: Arms

    /// Takes a message that was told and is of a type, with its sender.
    @discardableResult
    public consuming func onTell<Value: Sendable>(
        _ type: Value.Type,
        _ body: (Value, RefAddr) throws -> Output
    ) rethrows -> MessageMatch<Output> {
        if let (value, sender) = told(type) {
            open = nil
            output = try body(value, sender)
        }
        return self
    }

    /// Takes a question of a type, with its reply.
    @discardableResult
    public consuming func onQuestion<Value: Sendable>(
        _ type: Value.Type,
        _ body: (Value, AnyReply) throws -> Output
    ) rethrows -> MessageMatch<Output> {
        if let (value, reply) = asked(type) {
            open = nil
            output = try body(value, reply)
        }
        return self
    }

    /// Takes a message that was broadcast and is of a type. Receivers share it: nothing was copied for this one.
    @discardableResult
    public consuming func onBroadcast<Value: Sendable>(
        _ type: Value.Type,
        _ body: (Value) throws -> Output
    ) rethrows -> MessageMatch<Output> {
        if let (value, _) = shared(type) {
            open = nil
            output = try body(value)
        }
        return self
    }

    /// As above, with the sender.
    @discardableResult
    public consuming func onBroadcast<Value: Sendable>(
        _ type: Value.Type,
        _ body: (Value, RefAddr) throws -> Output
    ) rethrows -> MessageMatch<Output> {
        if let (value, sender) = shared(type) {
            open = nil
            output = try body(value, sender)
        }
        return self
    }

    /// Takes what no arm before took, and returns what the one that was called returned.
    @discardableResult
    public consuming func onFallback(_ body: (AnyMessage) throws -> Output) rethrows -> Output {
        let (message, output) = (open, output)
        open = nil
        if let message { return try body(message) }
        guard let output else { preconditionFailure("impossible: an arm that was called has returned") }
        return output
    }

    /// What the arm that was called returned; nil if none was: then the message is a dead letter.
    public consuming func result() -> Output? { output }

    // MARK: Arms that suspend

    /// Takes a message that was told and is of a type, with its sender.
    @discardableResult @_disfavoredOverload
    public nonisolated(nonsending) consuming func onTell<Value: Sendable>(
        _ type: Value.Type,
        _ body: nonisolated(nonsending) (Value, RefAddr) async throws -> Output
    ) async rethrows -> MessageMatch<Output> {
        if let (value, sender) = told(type) {
            open = nil
            output = try await body(value, sender)
        }
        return self
    }

    /// Takes a question of a type, with its reply.
    @discardableResult @_disfavoredOverload
    public nonisolated(nonsending) consuming func onQuestion<Value: Sendable>(
        _ type: Value.Type,
        _ body: nonisolated(nonsending) (Value, AnyReply) async throws -> Output
    ) async rethrows -> MessageMatch<Output> {
        if let (value, reply) = asked(type) {
            open = nil
            output = try await body(value, reply)
        }
        return self
    }

    /// Takes a message that was broadcast and is of a type.
    @discardableResult @_disfavoredOverload
    public nonisolated(nonsending) consuming func onBroadcast<Value: Sendable>(
        _ type: Value.Type,
        _ body: nonisolated(nonsending) (Value) async throws -> Output
    ) async rethrows -> MessageMatch<Output> {
        if let (value, _) = shared(type) {
            open = nil
            output = try await body(value)
        }
        return self
    }

    /// Takes what no arm before took, and returns what the one that was called returned.
    @discardableResult @_disfavoredOverload
    public nonisolated(nonsending) consuming func onFallback(
        _ body: nonisolated(nonsending) (AnyMessage) async throws -> Output
    ) async rethrows -> Output {
        let (message, output) = (open, output)
        open = nil
        if let message { return try await body(message) }
        guard let output else { preconditionFailure("impossible: an arm that was called has returned") }
        return output
    }
}

extension AnyMessage {
    /// Takes it if it was told and is of a type; see ``MessageMatch``.
    @discardableResult
    public func onTell<Value: Sendable, Output>(
        _ type: Value.Type,
        _ body: (Value, RefAddr) throws -> Output
    ) rethrows -> MessageMatch<Output> {
        try MessageMatch(self).onTell(type, body)
    }

    /// Takes it if it is a question of a type; see ``MessageMatch``.
    @discardableResult
    public func onQuestion<Value: Sendable, Output>(
        _ type: Value.Type,
        _ body: (Value, AnyReply) throws -> Output
    ) rethrows -> MessageMatch<Output> {
        try MessageMatch(self).onQuestion(type, body)
    }

    /// Takes it if it was broadcast and is of a type; see ``MessageMatch``.
    @discardableResult
    public func onBroadcast<Value: Sendable, Output>(
        _ type: Value.Type,
        _ body: (Value) throws -> Output
    ) rethrows -> MessageMatch<Output> {
        try MessageMatch(self).onBroadcast(type, body)
    }

    /// As above, by an arm that suspends.
    @discardableResult @_disfavoredOverload
    public nonisolated(nonsending) func onTell<Value: Sendable, Output>(
        _ type: Value.Type,
        _ body: nonisolated(nonsending) (Value, RefAddr) async throws -> Output
    ) async rethrows -> MessageMatch<Output> {
        try await MessageMatch(self).onTell(type, body)
    }

    /// As above, by an arm that suspends.
    @discardableResult @_disfavoredOverload
    public nonisolated(nonsending) func onQuestion<Value: Sendable, Output>(
        _ type: Value.Type,
        _ body: nonisolated(nonsending) (Value, AnyReply) async throws -> Output
    ) async rethrows -> MessageMatch<Output> {
        try await MessageMatch(self).onQuestion(type, body)
    }

    /// As above, by an arm that suspends.
    @discardableResult @_disfavoredOverload
    public nonisolated(nonsending) func onBroadcast<Value: Sendable, Output>(
        _ type: Value.Type,
        _ body: nonisolated(nonsending) (Value) async throws -> Output
    ) async rethrows -> MessageMatch<Output> {
        try await MessageMatch(self).onBroadcast(type, body)
    }

    /// The calling process does not handle it: it is counted as a dead letter of its system, where it is in one.
    func becomesDeadLetter(_ reason: DeadLetter.Reason) {
        guard let proc = LightProc.current, let system = BastionSystem.of(proc) else { return }
        system.deadLetter(of: type(of: payload), to: proc, from: sender.id, reason)
    }
}
