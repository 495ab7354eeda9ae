// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension Group {
    /// Asks every member at once, and collects what comes within the time: one result per member, in the order of ``members``.
    ///
    /// Returns when all have answered or failed, at the latest when the time is up; members that have not answered by then are
    /// `timeout`. Cancelling the calling task gives up what is still open. As they come: ``askEach(within:_:)``. Costs an ask per
    /// member.
    public func askAll<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) async -> [Result<Value, AskError>] {
        await members.map { $0.asking(within: time, make) }.results()
    }

    /// Asks every member at once, and hands out what each has answered as it comes: one element per member, until the time is up.
    ///
    /// ```swift
    /// for await quote in shops.askEach(within: .seconds(1), { .price(of: item, $0) }) {
    ///     if case .success(let price) = quote.result, price <= limit { return quote.process }
    /// }
    /// ```
    ///
    /// The asks are sent when this is called. Members that have not answered when the time is up come last, as `timeout`. Costs an
    /// ask per member. See ``Answers``.
    public func askEach<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) -> Answers<Value> {
        Answers(members.map { $0.asking(within: time, make) })
    }

    /// Asks every member at once, without waiting: one pending reply per member, in the order of ``members``, to be awaited, called back
    /// or piped. A mailbox that is full refuses.
    public func requestAll<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) -> [PendingReply<Value>] {
        members.map { $0.request(within: time, make) }
    }

    /// The members as references that send messages of any type.
    public var dynamic: [AnyRef] { members.map(\.dynamic) }

    /// Sends one value to every member, which share it; returns how many took it. See ``SupervisorRef/broadcast(_:)``.
    @discardableResult
    public func broadcast(shared value: any Sendable) -> Int { dynamic.broadcast(value) }
}

extension Sequence<AnyRef> {
    /// Asks all of them at once, and collects what comes within the time: one result each, in their order.
    ///
    /// Returns when all have answered or failed, at the latest when the time is up.
    public func askAll<Value: Sendable>(
        _ message: any Sendable,
        as type: Value.Type = Value.self,
        within time: Duration = .seconds(5)
    ) async -> [Result<Value, AskError>] {
        await map { $0.asking(message, from: .current, within: time) }.results()
    }

    /// Asks all of them at once, and hands out what each has answered as it comes: one element each, until the time is up.
    ///
    /// The asks are sent when this is called. Those that have not answered when the time is up come last, as `timeout`. See ``Answers``.
    public func askEach<Value: Sendable>(
        _ message: any Sendable,
        as type: Value.Type = Value.self,
        within time: Duration = .seconds(5)
    ) -> Answers<Value> {
        Answers(map { $0.asking(message, from: .current, within: time) })
    }

    /// Asks all of them at once, without waiting: one pending reply each, in their order. A mailbox that is full refuses.
    public func requestAll<Value: Sendable>(
        _ message: any Sendable,
        as type: Value.Type = Value.self,
        within time: Duration = .seconds(5)
    ) -> [PendingReply<Value>] {
        map { $0.request(message, as: type, within: time) }
    }

    /// Sends one value to all of them, which share it; returns how many took it.
    @discardableResult
    public func broadcast(_ value: any Sendable) -> Int {
        let message = AnyMessage(.init(.broadcast, value, from: .current))
        return count { $0.put(message, lane: .user) == .sent }
    }
}

extension Collection {
    /// Waits for all of them. Each has its own time, so that one after the other is as good as all at once.
    func results<Value: Sendable>() async -> [Result<Value, AskError>] where Element == PendingReply<Value> {
        var results: [Result<Value, AskError>] = []
        results.reserveCapacity(count)
        for pending in self {
            do throws(AskError) {
                results.append(.success(try await pending.value()))
            } catch {
                results.append(.failure(error))
            }
        }
        return results
    }
}
