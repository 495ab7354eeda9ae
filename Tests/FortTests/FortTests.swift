// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Fort
import Glibc
import LightProc
import Logging
import Supervision
import Testing

/// Writes a line to the standard output at once: `_exit` would not.
func say(_ line: String) {
    let line = line + "\n"
    _ = line.withCString { write(STDOUT_FILENO, $0, strlen($0)) }
}

/// Sends a signal to the thread that takes the program's signals. The other threads of a test's process were made
/// before the program, so they did not inherit its mask, and a signal to the whole process might reach one of them.
func signalProgram(_ signal: Int32) {
    // Not in the headers that Swift sees, because they need `_GNU_SOURCE`.
    guard let symbol = dlsym(nil, "tgkill") else { return say("no tgkill") }
    // safety: `int tgkill(pid_t, pid_t, int)`, since glibc 2.30.
    let tgkill = unsafeBitCast(symbol, to: (@convention(c) (pid_t, pid_t, Int32) -> Int32).self)
    // Ends: the program makes that thread right after it started the bodies.
    while true {
        if let thread = bastionThreads().first(where: { $0.name == "bastion-signals" }) {
            if tgkill(getpid(), thread.id, signal) != 0 { say("tgkill failed with \(errno)") }
            return
        }
        sched_yield()
    }
}

func bastionThreads() -> [(id: pid_t, name: String)] {
    guard let directory = opendir("/proc/self/task") else { return [] }
    defer { closedir(directory) }
    var threads: [(id: pid_t, name: String)] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        guard let id = pid_t(name) else { continue }
        let comm = contents(of: "/proc/self/task/\(id)/comm").trimmingPrefix { $0 == " " }.filter { $0 != "\n" }
        if comm.hasPrefix("bastion-") { threads.append((id, comm)) }
    }
    return threads
}

func contents(of path: String) -> String {
    guard let file = fopen(path, "r") else { return "" }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 8192)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes.prefix(count), as: UTF8.self)
}

struct Failure: Error {}

@inline(never) func opaque<T>(_ value: T) -> T { value }

/// Whole programs behind the boundary, each in an OS process of its own.
@Suite struct FortTests {
    private func lines(_ result: ExitTest.Result?) -> [String] {
        String(decoding: result?.standardOutputContent ?? [], as: UTF8.self).split(separator: "\n").map(String.init)
    }

    // MARK: The end

    struct Returns: FortProgram {
        func run(in context: Context) async throws { say("\(context.name) \(context.restarts)") }
    }

    @Test func aProgramWhoseBodyReturnsEndsWithSuccess() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Returns.main()
        }
        #expect(lines(result) == ["main-0 0"])
    }

    struct Twins: FortProgram {
        static var redundancy: Int { 3 }
        func run(in context: Context) async throws { say(context.name) }
    }

    @Test func redundancyRunsThatManyBodies() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Twins.main()
        }
        #expect(lines(result).sorted() == ["main-0", "main-1", "main-2"])
    }

    struct Wrong: FortProgram {
        static var redundancy: Int { 0 }
        func run(in context: Context) async throws {}
    }

    @Test func aWrongSpecificationEndsWithUsage() async {
        let result = await #expect(
            processExitsWith: .exitCode(ExitCode.usage.rawValue),
            observing: [\.standardErrorContent]
        ) {
            Wrong.main()
        }
        let words = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(words.contains("redundancy must be at least 1, got 0"))
    }

    // MARK: The undying body

    struct Traps: FortProgram {
        static var backoff: Backoff { .none }
        func run(in context: Context) async throws {
            say("\(context.restarts)")
            if context.restarts < 20 { say("\(opaque([1])[opaque(5)])") }
        }
    }

    @Test func aBodyThatTrapsIsStartedAgain() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Traps.main()
        }
        #expect(lines(result) == (0...20).map { "\($0)" })
    }

    struct Throws: FortProgram {
        static var backoff: Backoff { .exponential(.milliseconds(1), cap: .milliseconds(8)) }
        private static let began = Locked<ContinuousClock.Instant?>(nil)

        func run(in context: Context) async throws {
            let now = ContinuousClock.now
            let began = Self.began.withLock { began in
                began = began ?? now
                return began ?? now
            }
            say("\(context.restarts)")
            if context.restarts < 6 { throw Failure() }
            // A lower bound only: 1 + 2 + 4 + 8 + 8 + 8.
            say(now - began >= .milliseconds(31) ? "backed off" : "too fast: \(now - began)")
        }
    }

    @Test func aBodyThatThrowsBacksOff() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Throws.main()
        }
        #expect(lines(result) == ["0", "1", "2", "3", "4", "5", "6", "backed off"])
    }

    struct GivesUp: FortProgram {
        static var backoff: Backoff { .none }
        static var intensity: RestartIntensity { .init(3, within: .seconds(3600)) }
        func run(in context: Context) async throws {
            say("\(context.restarts)")
            throw Failure()
        }
    }

    @Test func moreRestartsThanTheIntensityAllowsEndTheProgram() async {
        let result = await #expect(
            processExitsWith: .exitCode(ExitCode.software.rawValue),
            observing: [\.standardOutputContent]
        ) {
            GivesUp.main()
        }
        #expect(lines(result) == ["0", "1", "2", "3"])
    }

    struct TrapsAtLast: FortProgram {
        static var intensity: RestartIntensity { .init(0, within: .seconds(1)) }
        func run(in context: Context) async throws {
            try context.supervise(intensity: .init(0, within: .seconds(1))) {
                Children("reckless", containment: .containAndReport) { _ in say("\(opaque([1])[opaque(5)])") }
            }
            await context.untilStopped()
        }
    }

    @Test func whatEndsTheProgramIsInItsLog() async {
        let result = await #expect(
            processExitsWith: .exitCode(ExitCode.software.rawValue),
            observing: [\.standardErrorContent]
        ) {
            TrapsAtLast.main()
        }
        let log = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        // The line of the supervisor, with what was looked up, and the report.
        #expect(log.contains("at=FortTests.swift:"), "\(log)")
        #expect(log.contains("child ended: trap: index out of range"), "\(log)")
        #expect(log.contains("kind=index out of range"), "\(log)")
        #expect(log.contains("supervisor gave up"), "\(log)")
    }

    struct GivesUpUnheard: FortProgram {
        static var stopDeadline: Duration { .seconds(1) }
        static var intensity: RestartIntensity { .init(0, within: .seconds(1)) }
        func run(in context: Context) async throws { throw Failure() }
    }

    @Test func aLogThatHangsDoesNotKeepTheProgram() async {
        await #expect(processExitsWith: .exitCode(ExitCode.software.rawValue)) {
            LoggingSystem.bootstrap { _ in
                FortSignalTests.WatchingLog { line in
                    // Ends: with the program.
                    while line.contains("child ended") { pause() }
                }
            }
            GivesUpUnheard.main()
        }
    }

    /// Beside the body there is a supervisor at the top of the system that nobody answers for.
    struct GivesUpBeside: FortProgram {
        struct Restless: Reactive {
            init() throws { throw Failure() }
            mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {}
        }

        func run(in context: Context) async throws {
            context.onExit { say("body: \($0)") }
            try bastion.supervise("beside", intensity: .init(2, within: .seconds(60))) {
                Children("restless", try Restless())
            }
            await context.untilStopped()
        }
    }

    @Test func aSupervisorAtTheTopThatGivesUpEndsTheProgram() async {
        let result = await #expect(
            processExitsWith: .exitCode(ExitCode.software.rawValue),
            observing: [\.standardOutputContent]
        ) {
            GivesUpBeside.main()
        }
        #expect(lines(result) == ["body: shutdown"])
    }

    // MARK: Signals

    struct Stops: FortProgram {
        func run(in context: Context) async throws {
            context.onExit { say("hook: \($0)") }
            try bastion.supervise("beside") {
                Children("beside") { context in
                    context.onExit { say("beside: \($0)") }
                    await context.untilStopped()
                }
            }
            try context.supervise {
                Children("below") { context in
                    context.onExit { say("below: \($0)") }
                    signalProgram(SIGTERM)
                    await context.untilStopped()
                }
            }
            await context.untilStopped()
            say("stopping")
        }
    }

    @Test func aSignalStopsTheProgramInOrder() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Stops.main()
        }
        #expect(lines(result) == ["stopping", "hook: shutdown", "below: shutdown", "beside: shutdown"])
    }

    struct Refuses: FortProgram {
        func run(in context: Context) async throws {
            await withTaskCancellationHandler {
                signalProgram(SIGTERM)
                await suspended { (_: UnsafeContinuation<Void, Never>) in }
            } onCancel: {
                say("no")
                signalProgram(SIGTERM)
            }
        }
    }

    @Test func aSecondSignalForcesTheEnd() async {
        let result = await #expect(processExitsWith: .exitCode(128 + 15), observing: [\.standardOutputContent]) {
            Refuses.main()
        }
        #expect(lines(result) == ["no"])
    }

    struct Masked: FortProgram {
        func run(in context: Context) async throws {
            let wanted: UInt64 = 1 << UInt64(SIGTERM - 1) | 1 << UInt64(SIGINT - 1)
            for thread in bastionThreads() {
                let status = contents(of: "/proc/self/task/\(thread.id)/status")
                guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("SigBlk:") }),
                    let mask = UInt64(line.dropFirst(7).trimmingPrefix { $0.isWhitespace }, radix: 16)
                else { continue }
                // The thread that takes the signals has them open while it waits.
                if thread.name != "bastion-signals", mask & wanted != wanted { say("\(thread.name): \(line)") }
            }
            say("checked")
        }
    }

    @Test func noThreadOfTheProgramIsInterruptedByTheSignalsItTakes() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Masked.main()
        }
        #expect(lines(result) == ["checked"])
    }
}
