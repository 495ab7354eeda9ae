// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Streams that are attached to a process, with backpressure, in virtual time.
@Suite struct AttachedStreamTests {
    private let sim = Simulation()

    private struct Broken: Error, CustomStringConvertible {
        var description: String { "broken" }
    }

    private final class Pulled: Sendable {
        private let count = Locked(0)
        var value: Int {
            get { count.withLock { $0 } }
            set { count.withLock { $0 = newValue } }
        }
    }

    /// Counts from 1 to a number, and notes how far it was asked to.
    private struct Counting: AsyncSequence, Sendable {
        let last: Int
        let pulled = Pulled()
        var failsAtEnd = false
        var trapsAtEnd = false

        struct AsyncIterator: AsyncIteratorProtocol {
            let sequence: Counting
            var n = 0
            mutating func next() async throws -> Int? {
                n += 1
                sequence.pulled.value = n
                if n <= sequence.last { return n }
                if sequence.failsAtEnd { throw Broken() }
                if sequence.trapsAtEnd { _ = opaque([1])[opaque(9)] }
                return nil
            }
        }
        func makeAsyncIterator() -> AsyncIterator { AsyncIterator(sequence: self) }
    }

    private func receiver(
        _ kind: Receiver,
        _ stream: Counting,
        window: Int,
        in system: BastionSystem
    ) throws -> AnyRef {
        let trace = sim.trace
        return try system.supervise(intensity: .unlimited) {
            kind.children("worker") { message, context in
                try message.onTell(String.self) { text, _ in
                    switch text {
                    case "attach":
                        let end: @Sendable (StreamEnd) -> AnyMessage? = { end in
                            switch end {
                            case .finished: AnyMessage(End("finished"))
                            case .failed(let error): AnyMessage(End(error is ProcFailure ? "trapped" : "\(error)"))
                            }
                        }
                        switch context {
                        case .async(let context):
                            context.attach(stream, window: window, as: { AnyMessage($0) }, end: end)
                        case .reactive(let proc):
                            ReactiveContext<Handler>(proc).attach(
                                stream,
                                window: window,
                                as: { AnyMessage($0) },
                                end: end
                            )
                        }
                    case "fail": throw Failure()
                    default: trace(text)
                    }
                }
                .onTell(Int.self) { n, _ in trace("\(n)") }
                .onTell(End.self) { end, _ in trace(end.how) }
            }
        }.refs("worker")[0]
    }

    private struct End: Sendable {
        let how: String
        init(_ how: String) { self.how = how }
    }

    @Test(arguments: Receiver.allCases)
    func elementsBecomeMessagesInOrder(kind: Receiver) throws {
        let stream = Counting(last: 100)
        let worker = try receiver(kind, stream, window: 4, in: sim.system)
        worker.tell("attach")
        sim.drain()
        #expect(sim.trace.lines == (1...100).map { "\($0)" } + ["finished"])
    }

    @Test(arguments: Receiver.allCases)
    func itsErrorIsItsEnd(kind: Receiver) throws {
        let stream = Counting(last: 2, failsAtEnd: true)
        let worker = try receiver(kind, stream, window: 1, in: sim.system)
        worker.tell("attach")
        sim.drain()
        #expect(sim.trace.lines == ["1", "2", "broken"])
    }

    /// A receiver that is held up by its own task, so that messages wait.
    @Test(arguments: [false, true], [1, 5])
    func noMoreIsPulledThanTheWindowAllows(isManaged: Bool, window: Int) throws {
        let sim = self.sim
        let stream = Counting(last: 1_000)
        let tree = try sim.system.supervise(intensity: .unlimited) {
            let children = Children("worker") { context in
                if context.restarts == 0 { context.attach(stream, window: window, as: { $0 }) }
                while true {
                    let n: Int = try await context.receive()
                    if n < 0 { throw Failure() }
                    sim.note("\(n)")
                    try await context.sleep(for: .seconds(1))
                }
            }
            if isManaged { children.mailbox(.bounded(100)) } else { children }
        }
        // One is in hand.
        sim.drain()
        #expect(stream.pulled.value == window + 1)
        sim.advance(by: .seconds(10))
        #expect(stream.pulled.value == window + 11)
        #expect(sim.trace.lines.count == 11)
        // It ends with the incarnation; what waited is received by the next.
        try tree.group("worker", of: Int.self).members[0].tell(-1)
        sim.advance(by: .seconds(1_000))
        #expect(stream.pulled.value <= 2 * window + 12)
        #expect(sim.system.restarts == 1)
    }

    @Test func aTrapInItIsItsEndOnly() async throws {
        try await withPool { system in
            let stream = Counting(last: 2, trapsAtEnd: true)
            let (lines, told) = AsyncStream.makeStream(of: Int.self)
            let tree = try system.supervise {
                Children("worker") { context in
                    context.attach(
                        stream,
                        as: { $0 },
                        end: { end in
                            if case .failed(let error) = end, error is ProcFailure { return -1 }
                            return -2
                        }
                    )
                    for await n in context.messages(of: Int.self) { told.yield(n) }
                }
            }
            var seen: [Int] = []
            for await n in lines {
                seen.append(n)
                if n < 0 { break }
            }
            #expect(seen == [1, 2, -1])
            #expect(system.restarts == 0)
            withExtendedLifetime(tree) {}
        }
    }

    @Test func itCanBeCancelled() throws {
        let sim = self.sim
        let tree = try sim.system.supervise {
            Children("worker") { context in
                let ticks = context.attach(context.ticks(every: .seconds(1)), as: { _ in 0 }, end: { _ in 1 })
                for await n in context.messages(of: Int.self) {
                    sim.note("\(n)")
                    if sim.trace.lines.count == 3 { ticks.cancel() }
                }
            }
        }
        sim.advance(by: .seconds(10))
        #expect(sim.trace.lines == ["1000: 0", "2000: 0", "3000: 0"])
        #expect(sim.stops(tree))
    }
}
