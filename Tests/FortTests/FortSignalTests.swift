// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Logging
import Supervision
import Testing

@testable import Fort

/// What programs do at SIGHUP and SIGQUIT, and where their tasks run; each in an OS process of its own.
@Suite struct FortSignalTests {
    /// Runs a program whose state the test can see.
    private static func run<Program: FortProgram>(_ program: Program, _ state: ProgramState) -> Never {
        OSSignals.block()
        do {
            let life = ProgramLife(BastionSystem.shared, state, FortOptions(of: Program.self))
            try life.start(program)
            exit(life.blockingWait().rawValue)
        } catch {
            say("\(error)")
            exit(1)
        }
    }

    // MARK: SIGHUP

    struct Reloads: FortProgram {
        private static let calls = AtomicWord(0)
        private static let isReloading = AtomicWord(0)
        static let state = ProgramState(link: nil, FortOptions(of: Self.self))

        func run(in context: Context) async throws {
            signalProgram(SIGHUP)
            await context.untilStopped()
            say("stopped")
        }

        func reload() async throws {
            let call = Self.calls.wrappingAdd(1, ordering: .sequentiallyConsistent).newValue
            if Self.isReloading.exchange(1, ordering: .sequentiallyConsistent) == 1 { say("two at a time") }
            await Task.yield()
            say("\(call) \(Self.state.current)")
            Self.isReloading.store(0, ordering: .sequentiallyConsistent)
            // Comes during this call or behind it: another one follows.
            if call < 4 { signalProgram(SIGHUP) }
            if call == 2 { throw Failure() }
            if call == 3 { say("\(opaque([1])[opaque(5)])") }
        }
    }

    @Test func aHangUpReloadsTheProgramOneCallAtATime() async {
        let result = await #expect(
            processExitsWith: .exitCode(0),
            observing: [\.standardOutputContent, \.standardErrorContent]
        ) {
            LoggingSystem.bootstrap { _ in
                WatchingLog { line in
                    say("log: \(line)")
                    // What is told last: the report of a trap is told when its symbols are known.
                    if line.contains("trap:") { signalProgram(SIGTERM) }
                }
            }
            FortSignalTests.run(Reloads(), Reloads.state)
        }
        let lines = outputLines(result)
        #expect(
            lines.filter { $0.first?.isNumber == true } == ["1 reloading", "2 reloading", "3 reloading", "4 reloading"]
        )
        #expect(!lines.contains("two at a time"))
        #expect(lines.contains("log: child ended: error: Failure() reload"))
        #expect(lines.contains { $0.hasPrefix("log: child ended: trap: ") && $0.hasSuffix(" reload") })
        #expect(lines.contains("stopped"))
    }

    /// A log that tells a closure.
    struct WatchingLog: LogHandler {
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.info
        let tell: @Sendable (String) -> Void

        init(_ tell: @escaping @Sendable (String) -> Void) { self.tell = tell }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let child = event.metadata?["child"].map { " \($0)" } ?? ""
            tell("\(event.message)\(child.prefix { $0 != "<" })")
        }
    }

    struct Late: FortProgram {
        static let state = ProgramState(link: nil, FortOptions(of: Self.self))
        static var backoff: Backoff { .none }
        static var signalsReady: Bool { true }
        private static let told = BlockingGate()

        func run(in context: Context) async throws {
            if context.restarts == 0 {
                say("\(Self.state.current)")
                signalProgram(SIGHUP)
                Self.told.blockingWait()
                throw Failure()
            }
            say("again: \(Self.state.current)")
            context.ready()
            say("\(Self.state.current)")
        }

        func reload() async throws {
            say("reload: \(Self.state.current)")
            Self.told.open()
        }
    }

    @Test func aProgramThatIsNotReadyIsReloadedWithoutTellingAndIsReadyWhenABodyIs() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            FortSignalTests.run(Late(), Late.state)
        }
        let lines = outputLines(result).filter { !$0.contains("bastion") }
        #expect(lines == ["starting", "reload: starting", "again: starting", "ready"])
    }

    // MARK: SIGQUIT

    /// Has what the program writes to the standard error come out of a descriptor.
    private static func captureStandardError() -> CInt {
        var ends: [CInt] = [0, 0]
        if pipe(&ends) != 0 || dup2(ends[1], STDERR_FILENO) < 0 { say("no pipe: \(errno)") }
        return ends[0]
    }

    private static func read(_ file: CInt, until end: String) -> String {
        var text = ""
        var bytes = [UInt8](repeating: 0, count: 4096)
        // Ends: with the text, or when nobody writes any more.
        while !text.contains(end) {
            let count = Glibc.read(file, &bytes, bytes.count)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            text += String(decoding: bytes.prefix(count), as: UTF8.self)
        }
        return text
    }

    /// Its only worker is stuck in its body all the while.
    struct Dumped: FortProgram {
        static var workers: Int? { 1 }
        func run(in context: Context) async throws {
            let me = context.me(as: Int.self)
            try bastion.supervise("shop") {
                Supervisor("floor") {
                    Children("clerk", redundancy: 3) { context in
                        me.tell(1)
                        await context.untilStopped()
                    }
                }
            }
            for _ in 0..<3 { _ = try await context.receive(Int.self) }
            let file = captureStandardError()
            signalProgram(SIGQUIT)
            say(read(file, until: "--- end of state"))
            say("goes on")
        }
    }

    @Test func aQuitPrintsTheTreeAndTheWorkersAlsoWhenAllAreStuck() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Dumped.main()
        }
        let lines = outputLines(result)
        #expect(lines.contains { $0.hasPrefix("--- state of Dumped, process ") })
        #expect(lines.contains { $0.hasPrefix("  /fort <0.") })
        #expect(lines.contains { $0.hasPrefix("    /fort/main-0 <0.") && $0.contains("> running, ") })
        #expect(lines.contains { $0.hasPrefix("  /shop <0.") })
        #expect(lines.count { $0.hasPrefix("    /shop/floor <0.") && $0.contains("> supervisor, running") } == 1)
        #expect(lines.count { $0.hasPrefix("      /shop/floor/clerk-") && $0.contains("> running, idle") } == 3)
        #expect(lines.contains { $0.hasPrefix("  0: runs /fort/main-0<0.") })
        #expect(lines.contains { $0.hasPrefix("blocking threads: ") })
        #expect(lines.contains { $0.hasPrefix("timers: ") })
        #expect(lines.contains { $0.hasPrefix("stack of worker 0:") })
        // Sanitizers hide it.
        if !isSanitized {
            #expect(lines.contains { $0.contains("Dumped.run(in:)") || $0.contains("FortSignalTests") })
        }
        #expect(lines.last == "goes on")
    }

    @Test func aTreeShowsAtMostSoManyChildren() async throws {
        let pool = try WorkerPool(workers: 1)
        defer { pool.shutdown() }
        let system = BastionSystem(name: "limits", executor: pool)
        let (starts, started) = AsyncStream.makeStream(of: Void.self)
        let tree = try system.supervise("many") {
            Children("child", redundancy: 12) { context in
                started.yield()
                await context.untilStopped()
            }
        }
        var isStarted = starts.makeAsyncIterator()
        for _ in 0..<12 { await isStarted.next() }
        let view = try #require(system.views(TreeViewLimits(children: 5, all: 100)).first)
        #expect(view.path == "/many" && view.children.count == 5 && view.others == 7)
        #expect(view.children.allSatisfy { $0.path.hasPrefix("/many/child-") })
        let few = system.views(TreeViewLimits(children: 5, all: 3))
        #expect(few.first?.children.count == 3 && few.first?.others == 9)
        var dump = StateDump(program: "Limits", views: [view])
        dump.timers = []
        #expect(dump.text.hasSuffix("    and 7 more\n"))
        let running = system.running(atMost: 10)
        #expect(running.paths.count == 10 && running.others == 2)
        await tree.stop()
        #expect(system.running(atMost: 10).paths == [])
    }

    // MARK: The global executor

    private static var threadName: String { contents(of: "/proc/thread-self/comm").filter { $0 != "\n" } }

    struct Adopts: FortProgram {
        static var adoptsGlobalExecutor: Bool { true }
        func run(in context: Context) async throws {
            say("task: \(await Task { threadName }.value)")
            say("detached: \(await Task.detached { threadName }.value)")
            signalProgram(SIGHUP)
            await context.untilStopped()
            say("stopped: \(await Task { threadName }.value)")
        }

        func reload() async throws {
            say("reload: \(await Task { threadName }.value)")
            signalProgram(SIGTERM)
        }
    }

    @Test func tasksOfAProgramThatAdoptsTheGlobalExecutorRunOnWorkers() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Adopts.main()
        }
        let lines = outputLines(result).filter { $0.contains(": ") && !$0.contains("bastion :") }
        for word in ["task: ", "detached: ", "reload: ", "stopped: "] {
            #expect(lines.contains { $0.hasPrefix(word + "bastion-worker") }, "\(word)\(lines)")
        }
    }

    struct Refrains: FortProgram {
        func run(in context: Context) async throws { say("task: \(await Task.detached { threadName }.value)") }
    }

    @Test func tasksOfOtherProgramsDoNot() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Refrains.main()
        }
        #expect(outputLines(result).contains { $0.hasPrefix("task: ") && !$0.contains("bastion-worker") })
    }
}
