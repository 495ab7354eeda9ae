// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Logging
import Testing

@testable import Supervision

/// What the system's log says of a child that keeps its worker: which one, in which message, where, and for how long.
@Suite(.timeLimit(.minutes(5))) struct StallLogTests {
    enum Kind: CaseIterable { case reactive, async, managedReactive, managedAsync }

    /// What a child is stuck in: a call that ThreadSanitizer lets signals interrupt, which it otherwise holds back.
    private final class Pipe: Sendable {
        private let ends: [Int32]
        init() {
            var ends: [Int32] = [0, 0]
            precondition(pipe(&ends) == 0, "pipe failed with errno \(errno)")
            self.ends = ends
        }
        deinit { for end in ends { close(end) } }
        func open() { _ = write(ends[1], "x", 1) }
        func blockingWait() {
            var waited = pollfd(fd: ends[0], events: Int16(POLLIN), revents: 0)
            // Ends: open for good once it was opened; a signal only makes it begin anew.
            while poll(&waited, 1, -1) != 1 {}
        }
    }

    private struct Chore: Sendable { let pipe: Pipe }

    private struct Worker: Reactive {
        mutating func receive(_ message: consuming Chore, in context: borrowing ReactiveContext<Self>) {
            StallLogTests.toil(message.pipe)
        }
    }

    private static func children(_ kind: Kind) -> Children {
        let async = Children("slow") { context in
            for await chore in context.messages(of: Chore.self) { toil(chore.pipe) }
        }
        return switch kind {
        case .reactive: Children("slow", Worker())
        case .managedReactive: Children("slow", Worker()).mailbox(.bounded(10))
        case .async: async
        case .managedAsync: async.mailbox(.bounded(10))
        }
    }

    @Test(arguments: Kind.allCases) func theLogSaysWhoIsStuckInWhatAndForHowLong(_ kind: Kind) async throws {
        let (trace, stuck, recovered) = (Trace(), BlockingGate(), BlockingGate())
        let pool = try WorkerPool(workers: 2, stallThreshold: .milliseconds(10))
        let system = BastionSystem(
            executor: pool,
            // Of one child, and says when there is something.
            log: .keeping { event, _ in
                let line = "\(event.message)"
                guard line.contains("/shop/slow-0") else { return }
                trace("\(event.level) \(line)")
                (line.contains("got on") ? recovered : stuck).open()
            }
        )
        let tree = try system.supervise("shop") { Self.children(kind) }
        let child = try tree.group("slow", of: Chore.self).next
        let pipe = Pipe()
        child.tell(Chore(pipe: pipe))
        stuck.blockingWait()
        // Others go on meanwhile.
        #expect(try await pool.spawn { 1 }.outcome().get() == 1)
        pipe.open()
        recovered.blockingWait()
        let lines = trace.lines
        let name = "/shop/slow-0\(child.id), handling Chore"
        let told = lines.first { $0.hasPrefix("warning worker ") && $0.contains(" is stuck in \(name) since ") }
        #expect(told != nil, "\(lines)")
        // In which function: of an async child this is all that says what it does with the message. Sanitizers hide it.
        if !isSanitized { #expect(told?.contains("toil") == true, "\(lines)") }
        #expect(lines.contains { $0.hasPrefix("notice worker ") && $0.contains(" in \(name)") }, "\(lines)")
        await system.stop()
        await Task.detached { pool.shutdown() }.value
    }

    private var isSanitized: Bool { dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil }

    @inline(never) private static func toil(_ pipe: Pipe) { pipe.blockingWait() }
}
