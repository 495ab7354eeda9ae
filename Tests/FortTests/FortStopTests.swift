// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Supervision
import Testing

@testable import Fort

/// How programs stop, each in an OS process of its own.
@Suite struct FortStopTests {
    /// Never returns, and does not mind to be cancelled.
    private static func linger() async { await suspended { (_: UnsafeContinuation<Void, Never>) in } }

    /// The lines that the log or the program wrote, wherever the log writes.
    private func words(_ result: ExitTest.Result?) -> [String] { outputLines(result) + errorLines(result) }

    struct Lingers: FortProgram {
        // It would be killed after 10 s, and the program end in order before the default deadline.
        static var stopDeadline: Duration { .milliseconds(200) }
        func run(in context: Context) async throws {
            atexit { say("exit handler") }
            signalProgram(SIGTERM)
            await linger()
        }
    }

    @Test func aStopThatTakesTooLongEndsTheProgramAndNamesWhatStillRuns() async {
        let result = await #expect(
            processExitsWith: .exitCode(ExitCode.temporary.rawValue),
            observing: [\.standardOutputContent, \.standardErrorContent]
        ) {
            Lingers.main()
        }
        #expect(
            errorLines(result).contains {
                $0.hasSuffix(": the stop is not over after 200ms; still running: /fort/main-0")
            }
        )
        #expect(
            words(result).contains {
                $0.contains("the stop is not over after its deadline") && $0.contains("running=/fort/main-0")
            }
        )
        #expect(!words(result).contains("exit handler"))
    }

    struct LingersBeside: FortProgram {
        static var stopDeadline: Duration { .milliseconds(200) }
        func run(in context: Context) async throws {
            let me = context.me(as: Int.self)
            try bastion.supervise("beside") {
                Children("quick") { context in await context.untilStopped() }
                Supervisor("nest") {
                    Children("slow", redundancy: 2, shutdownTime: .infinity) { _ in
                        me.tell(1)
                        await linger()
                    }
                }
            }
            for _ in 0..<2 { _ = try await context.receive(Int.self) }
            // Nobody tells the program to stop: the deadline counts all the same.
        }
    }

    @Test func theDeadlineCountsForWhatRunsBesideTheBodiesToo() async {
        let result = await #expect(
            processExitsWith: .exitCode(ExitCode.temporary.rawValue),
            observing: [\.standardErrorContent]
        ) {
            LingersBeside.main()
        }
        #expect(
            errorLines(result).contains {
                $0.hasSuffix("still running: /beside/quick-0, /beside/nest/slow-0, /beside/nest/slow-1")
            }
        )
    }

    struct Spins: FortProgram {
        static var stopDeadline: Duration { .milliseconds(200) }
        static var workers: Int? { 1 }
        func run(in context: Context) async throws {
            signalProgram(SIGTERM)
            while opaque(true) {}
        }
    }

    @Test func theDeadlineCountsAlsoWhenTheWorkersAreStuck() async {
        let result = await #expect(
            processExitsWith: .exitCode(ExitCode.temporary.rawValue),
            observing: [\.standardErrorContent]
        ) {
            Spins.main()
        }
        #expect(errorLines(result).contains { $0.hasSuffix("still running: /fort/main-0") })
    }

    struct Overdue: FortProgram {
        static var redundancy: Int { 2 }
        static var shutdownTime: ShutdownTime { .milliseconds(50) }
        func run(in context: Context) async throws {
            try bastion.supervise("beside") {
                Children("brutal", shutdownTime: .brutalKill) { _ in await linger() }
            }
            if context.name == "main-1" { return await context.untilStopped() }
            signalProgram(SIGTERM)
            await linger()
        }
    }

    @Test func whoWasKilledForBeingSlowIsNamedAtTheEnd() async {
        let result = await #expect(
            processExitsWith: .exitCode(0),
            observing: [\.standardOutputContent, \.standardErrorContent]
        ) {
            Overdue.main()
        }
        let line = words(result).first { $0.contains("killed, as they had not stopped within their shutdown time") }
        #expect(line?.contains("children=/fort/main-0") == true)
        #expect(line?.contains("main-1") == false)
        #expect(line?.contains("brutal") == false)
    }

    struct Twice: FortProgram {
        func run(in context: Context) async throws {
            let me = context.me(as: Int.self)
            try bastion.supervise("beside") {
                Children("slow", shutdownTime: .infinity) { context in
                    await withTaskCancellationHandler {
                        me.tell(1)
                        await linger()
                    } onCancel: {
                        // The bodies have ended by themselves: this is the first signal, and begins nothing.
                        signalProgram(SIGINT)
                        signalProgram(SIGTERM)
                    }
                }
            }
            _ = try await context.receive(Int.self)
        }
    }

    @Test func theSecondSignalForcesTheEndAlsoWhereTheFirstBeganNothing() async {
        await #expect(processExitsWith: .exitCode(128 + 15)) { Twice.main() }
    }

    // MARK: Pure

    @Test func wishesThatComeDuringAReloadAreOneMore() {
        var reloads = Reloads()
        var calls: [Bool] = []
        for isWish in [true, true, true, false, true, false, false, true] {
            calls.append(isWish ? reloads.wanted() : reloads.ended())
        }
        #expect(calls == [true, false, false, true, false, true, false, true])
    }

    private struct Plain: FortProgram {
        func run(in context: Context) async throws {}
    }

    @Test func aProgramGoesThroughItsStages() {
        let state = ProgramState(link: nil, FortOptions(of: Plain.self))
        #expect(!state.enter(.reloading), "it is not ready yet")
        #expect(state.enter(.ready))
        #expect(!state.enter(.ready))
        #expect(state.enter(.reloading))
        #expect(!state.enter(.ready), "another body has started meanwhile")
        #expect(state.current == .reloading)
        state.reloaded()
        #expect(state.current == .ready)
        #expect(state.enter(.reloading))
        #expect(state.enter(.stopping))
        state.reloaded()
        #expect(state.current == .stopping)
        #expect(!state.enter(.ready) && !state.enter(.stopping) && !state.enter(.starting))
    }
}
