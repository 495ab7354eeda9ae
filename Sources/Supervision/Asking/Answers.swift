// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// The answers to one question that several processes were asked, in the order in which they come: one element for each process.
///
/// - Every ask ends as one of the outcomes of an ask, and is one element: the sequence ends after as many as were asked.
/// - Each answer is handed out once; several iterators, and what is left when one stops, share what comes.
/// - Cancelling the task that waits gives up the asks that are open, which then come as `cancelled`. So does ``cancel()``.
/// - When the last copy of the sequence and its iterators goes, as after a `break`, the asks that are open are given up.
///
/// A circle of asks is found where one answer only is still to come; otherwise the time decides.
public struct Answers<Value: Sendable>: AsyncSequence, Sendable {
    /// What one of the processes answered.
    public struct Element: Sendable {
        /// Which of them, counted from 0 in the order in which they were asked.
        public let number: Int
        /// The process that was asked.
        public let process: ProcID
        /// Its answer, or how the ask ended.
        public let result: Result<Value, AskError>
    }

    /// Hands out what has come and what will come.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let inbox: Inbox
        /// Waits for the next answer; nil when all have been handed out.
        public mutating func next() async -> Element? { await inbox.next() }
        /// The same, on the caller's actor.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> Element? { await inbox.next() }
    }

    private let inbox: Inbox

    init(_ asks: [PendingReply<Value>]) {
        inbox = Inbox(asks)
        for (number, pending) in asks.enumerated() {
            let process = pending.ask.proc.id
            // On whatever thread settles it; no code of the user's.
            pending.whenSettled { [weak inbox] result in
                inbox?.settled(Element(number: number, process: process, result: result))
            }
        }
    }

    /// How many processes were asked.
    public var count: Int { inbox.asks.count }

    /// Gives up the asks that are open. Any thread.
    public func cancel() { inbox.giveUp() }

    /// Returns an iterator; several share what comes.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(inbox: inbox) }

    /// The first answer that is a value; the asks that are open then are given up. Nil when none is.
    public func firstValue() async -> Value? {
        defer { cancel() }
        for await element in self {
            if case .success(let value) = element.result { return value }
        }
        return nil
    }

    fileprivate final class Inbox: Sendable {
        private struct State {
            var came = Ring<Element>()
            /// How many are still to be handed out.
            var left: Int
            var waiters: [Waiter] = []

            /// One more was handed out; who waits in vain after the last.
            mutating func handedOut() -> [Waiter] {
                left -= 1
                if left > 0 { return [] }
                defer { waiters = [] }
                return waiters
            }
        }
        typealias Waiter = UnsafeContinuation<Element?, Never>
        let asks: [PendingReply<Value>]
        private let state: Locked<State>

        init(_ asks: [PendingReply<Value>]) {
            self.asks = asks
            state = Locked(State(left: asks.count))
        }

        deinit { giveUp() }

        func giveUp() { for pending in asks { pending.cancel() } }

        func settled(_ element: Element) {
            let (waiter, others) = state.withLock { state -> (Waiter?, [Waiter]) in
                if state.waiters.isEmpty {
                    state.came.append(element)
                    return (nil, [])
                }
                return (state.waiters.removeFirst(), state.handedOut())
            }
            waiter?.resume(returning: element)
            for other in others { other.resume(returning: nil) }
        }

        func next() async -> Element? {
            let waiting = lastOpen.flatMap { AskWait($0) }
            defer { waiting?.end() }
            return await withTaskCancellationHandler {
                await suspended { wait($0) }
            } onCancel: {
                giveUp()
            }
        }

        /// The only ask that is still to be answered; nil if there are more, or answers that wait to be handed out.
        private var lastOpen: Ask? {
            guard state.withLock({ $0.left == 1 && $0.came.isEmpty }) else { return nil }
            return asks.first { !$0.ask.isSettled }?.ask
        }

        private func wait(_ continuation: Waiter) {
            let (answer, others) = state.withLock { state -> (Element??, [Waiter]) in
                if let element = state.came.popFirst() { return (.some(element), state.handedOut()) }
                if state.left == 0 { return (.some(nil), []) }
                state.waiters.append(continuation)
                return (.none, [])
            }
            if let answer { continuation.resume(returning: answer) }
            for other in others { other.resume(returning: nil) }
        }
    }
}
