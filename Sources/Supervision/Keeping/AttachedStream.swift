// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// How a stream that was attached to a process ended.
public enum StreamEnd: Sendable {
    /// It had no more elements.
    case finished
    /// It threw; or the process's mailbox was full (``SendError/full(_:_:)``); or code of the stream or its conversion trapped
    /// (`ProcFailure`).
    case failed(any Error)
}

/// A stream that was attached to a process.
public struct AttachedStream: Sendable {
    private let pump: LightProc

    fileprivate init(_ pump: LightProc) { self.pump = pump }

    /// Ends it: the iteration is cancelled, and nothing more is sent, no end either. Elements that wait are received. Any thread.
    public func cancel() { pump.kill() }

    /// Whether it has ended.
    public var isOver: Bool { pump.isClosed }
}

extension Context {
    /// Makes messages of the elements of a stream, as fast as this process handles them, until the stream or this incarnation ends.
    ///
    /// ```swift
    /// context.attach(lines, as: Message.line, end: { _ in Message.noMoreLines })
    /// ```
    ///
    /// - The next element is asked for only while fewer than `window` of the stream's messages wait in the mailbox.
    /// - Messages keep the order of the elements, in the user lane. The end comes after the last of them.
    /// - The stream is iterated over by a process of its own that ends with this incarnation: cancelled, it has 5 s to return. A trap in
    ///   it, or in the conversions, is its own, and comes as an end like an error.
    ///
    /// Costs a process, an allocation an element.
    /// - Parameters:
    ///   - window: How many of its messages may wait; at least 1.
    ///   - make: Makes the message; called by that process.
    ///   - end: Makes the message of the end; nil for none.
    @discardableResult
    public func attach<Stream: AsyncSequence & Sendable, Message: Sendable>(
        _ stream: Stream,
        window: Int = 16,
        as make: @escaping @Sendable (Stream.Element) -> Message,
        end: @escaping @Sendable (StreamEnd) -> Message? = { _ in nil }
    ) -> AttachedStream where Stream.Element: Sendable {
        me(as: Message.self).attach(stream, to: incarnation, window, make, end)
    }
}

extension ReactiveContext {
    /// Makes messages of the elements of a stream, as fast as this process handles them, until the stream or this incarnation
    /// ends; see ``Context/attach(_:window:as:end:)``.
    @discardableResult
    public func attach<Stream: AsyncSequence & Sendable>(
        _ stream: Stream,
        window: Int = 16,
        as make: @escaping @Sendable (Stream.Element) -> Body.Message,
        end: @escaping @Sendable (StreamEnd) -> Body.Message? = { _ in nil }
    ) -> AttachedStream where Stream.Element: Sendable {
        me.attach(stream, to: proc.incarnation, window, make, end)
    }
}

extension ProcRef {
    fileprivate func attach<Stream: AsyncSequence & Sendable>(
        _ stream: Stream,
        to incarnation: UInt32,
        _ size: Int,
        _ make: @escaping @Sendable (Stream.Element) -> Message,
        _ end: @escaping @Sendable (StreamEnd) -> Message?
    ) -> AttachedStream where Stream.Element: Sendable {
        precondition(size > 0, "the window must be at least 1, got \(size)")
        let window = StreamWindow(size)
        // A body that trapped has not said that it is done.
        let isDone = Locked(false)
        let pump = LightProc.async(on: proc.scheduler) { _ in
            var outcome = StreamEnd.finished
            do {
                var elements = stream.makeAsyncIterator()
                // Ends with the stream, or when the process of this closure is ended.
                while true {
                    try await window.waitForRoom()
                    guard let element = try await elements.next() else { break }
                    try await send(make(element), ticket: window.ticket())
                }
                try Task.checkCancellation()
            } catch {
                if Task.isCancelled { return isDone.withLock { $0 = true } }
                if case SendError<Message>.closed? = error as? SendError<Message> {
                    return isDone.withLock { $0 = true }
                }
                outcome = .failed(error)
            }
            if let message = end(outcome) {
                do throws(SendError<Message>) { try await send(message, ticket: window.ticket()) } catch {
                    // Refused; not where this incarnation is over.
                    if !Task.isCancelled { tellUnclaimed(error.message) }
                }
            }
            isDone.withLock { $0 = true }
        }
        pump.prepare(name: proc.name.map { "\($0)/stream" }, stack: nil, observer: nil, shutdownTime: .seconds(5))
        let hook = proc.onExit(of: incarnation) { _ in pump.kill() }
        pump.notifyWhenEnded { [proc] reason in
            hook.cancel()
            guard reason.trapReport != nil, !isDone.withLock({ $0 }) else { return }
            LightProc.runOnce(on: proc.scheduler) {
                guard proc.incarnation == incarnation else { return }
                if let message = end(.failed(ProcFailure(reason: reason))) { self.tellUnclaimed(message) }
            }
        }
        pump.restart()
        return AttachedStream(pump)
    }

    /// Sends a message with something that is let go of when the message is taken out of the mailbox.
    private func send(_ message: Message, ticket: StreamTicket) async throws(SendError<Message>) {
        if proc.managedQueue != nil { return try await send(message, holding: ticket) }
        if !deliver(message, receipt: ticket) { throw .closed(message, id) }
    }
}

/// How many messages of a stream may wait in the mailbox.
private final class StreamWindow: Sendable {
    private struct State {
        var waiting = 0
        var gate: SleepGate?
    }
    private let size: Int
    private let state = Locked(State())

    init(_ size: Int) { self.size = size }

    /// A message is about to be sent.
    func ticket() -> StreamTicket {
        state.withLock { $0.waiting += 1 }
        return StreamTicket(self)
    }

    func waitForRoom() async throws {
        // Ends: one task waits here, and is woken when a message was taken.
        while true {
            try Task.checkCancellation()
            let gate = state.withLock { state -> SleepGate? in
                if state.waiting < size { return nil }
                let gate = SleepGate()
                state.gate = gate
                return gate
            }
            guard let gate else { return }
            await withTaskCancellationHandler {
                await gate.wait()
            } onCancel: {
                gate.open()
            }
        }
    }

    fileprivate func taken() {
        let gate = state.withLock { state in
            state.waiting -= 1
            defer { state.gate = nil }
            return state.gate
        }
        gate?.open()
    }
}

/// Rides on a message of a stream, and dies when that is taken out of the mailbox, or dropped.
private final class StreamTicket: MessageReceipt, @unchecked Sendable {
    // Sendable: constant.
    private let window: StreamWindow
    init(_ window: StreamWindow) { self.window = window }
    deinit { window.taken() }
    /// Nobody waits for an answer: the process does not keep it.
    override var isSettled: Bool { true }
}
