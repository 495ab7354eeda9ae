// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Supervision
import Synchronization
import Testing

@testable import Fort

/// A directory for what a program of a test writes; the same in the test and in the process that the test starts, which is its child.
struct TestDirectory {
    let path: String

    private init(_ name: String, of process: pid_t) {
        let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        path = "\(parent)/bastion-\(process)-\(name)"
    }

    /// In the test: empty.
    static func make(_ name: String) -> TestDirectory {
        let directory = TestDirectory(name, of: getpid())
        directory.remove()
        mkdir(directory.path, 0o755)
        return directory
    }

    /// In the process that it starts.
    static func ofParent(_ name: String) -> TestDirectory { TestDirectory(name, of: getppid()) }

    var names: [String] { ReportDirectory.names(in: path).sorted() }

    func contents(of name: String) -> String {
        guard let file = fopen("\(path)/\(name)", "r") else { return "" }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer.prefix(count) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The only record of a program that is no more.
    func deadProgram() -> LifeRecord? {
        let records = names.filter { $0.hasSuffix(RecordFile.ending) }
        guard records.count == 1, let name = records.first else { return nil }
        let descriptor = open("\(path)/\(name)", O_RDWR)
        defer { close(descriptor) }
        guard let record = ProcessRecord.map(descriptor), record.isValid else { return nil }
        defer { record.unmap() }
        return LifeRecord(record)
    }

    func remove() {
        for name in names { unlink("\(path)/\(name)") }
        rmdir(path)
    }
}

@inline(never) private func writeWild(at address: Int) {
    UnsafeMutablePointer<Int>(bitPattern: opaque(address))?.pointee = 5
    opaque(())
}

@inline(never) private func recurse(_ depth: Int) -> Int {
    var room = (0, 1, 2, 3, 4, 5, 6, depth)
    return withUnsafeMutablePointer(to: &room) { depth == -1 ? 0 : recurse(opaque(depth + 1)) + $0.pointee.7 }
}

/// Ends of programs that nothing contains: each in an OS process of its own.
@Suite struct DeathTests {
    private func output(_ bytes: [UInt8]?) -> String { String(decoding: bytes ?? [], as: UTF8.self) }

    private func functions(_ life: LifeRecord) -> [String] {
        var names = FrameNames(life)
        return names.frames(at: life.death?.frames ?? []).compactMap(\.function)
    }

    // MARK: The handler

    struct WildInProcess: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("wild-process").path }
        func run(in context: Context) async throws { writeWild(at: 0x10) }
    }

    @Test func aWildAccessInAProcessIsWrittenDown() async throws {
        let directory = TestDirectory.make("wild-process")
        defer { directory.remove() }
        await #expect(processExitsWith: .signal(SIGSEGV)) { WildInProcess.main() }
        let life = try #require(directory.deadProgram())
        let death = try #require(life.death)
        #expect(death.isComplete)
        #expect(death.signal == SIGSEGV)
        #expect(death.address == 0x10)
        #expect(death.process?.hasPrefix("/fort/main-0<0.") ?? false, "\(death.process ?? "none")")
        #expect(death.threadName.hasPrefix("bastion-"))
        let functions = functions(life)
        #expect(functions.first?.contains("writeWild") ?? false, "\(functions)")
        #expect(functions.contains { $0.contains("WildInProcess.run") }, "\(functions)")
        #expect(life.events.contains { $0.text == "/fort/main-0 started" })
        #expect(life.stage == "ready")
    }

    struct WildOnThread: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("wild-thread").path }
        func run(in context: Context) async throws {
            _ = PlainThread(name: "mine") { writeWild(at: 0x20) }
            await context.untilStopped()
        }
    }

    @Test func aWildAccessOnAThreadOfTheProgramsOwnIsWrittenDown() async throws {
        let directory = TestDirectory.make("wild-thread")
        defer { directory.remove() }
        await #expect(processExitsWith: .signal(SIGSEGV)) { WildOnThread.main() }
        let life = try #require(directory.deadProgram())
        let death = try #require(life.death)
        #expect((death.signal, death.address) == (SIGSEGV, 0x20))
        #expect(death.process == nil)
        #expect(death.threadName == "mine")
        #expect(functions(life).first?.contains("writeWild") ?? false, "\(functions(life))")
    }

    struct Aborts: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("aborts").path }
        func run(in context: Context) async throws {
            _ = PlainThread(name: "mine") { abort() }
            await context.untilStopped()
        }
    }

    @Test func anAbortIsWrittenDown() async throws {
        let directory = TestDirectory.make("aborts")
        defer { directory.remove() }
        await #expect(processExitsWith: .signal(SIGABRT)) { Aborts.main() }
        let life = try #require(directory.deadProgram())
        #expect(life.death?.signal == SIGABRT)
        // Through the C library, which keeps no frame pointers.
        #expect(functions(life).contains { $0.contains("Aborts.run") }, "\(functions(life))")
    }

    struct Fails: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("fails").path }
        func run(in context: Context) async throws {
            try bastion.supervise("shop") {
                Children("orders", redundancy: 2, containment: .crash) { context in
                    if context.name == "orders-1" { fatalError("no \(opaque("more"))") }
                    await context.untilStopped()
                }
            }
            await context.untilStopped()
        }
    }

    @Test func whatTheRuntimeSaidAndWhoseTrapItWasAreWrittenDown() async throws {
        let directory = TestDirectory.make("fails")
        defer { directory.remove() }
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { Fails.main() }
        let life = try #require(directory.deadProgram())
        let death = try #require(life.death)
        #expect(result?.exitStatus == .signal(death.signal))
        #expect(death.message?.contains("Fatal error: no more") ?? false, "\(death.message ?? "none")")
        #expect(death.process?.hasPrefix("/shop/orders-1<0.") ?? false, "\(death.process ?? "none")")
    }

    struct Killed: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("killed").path }
        func run(in context: Context) async throws {
            kill(getpid(), SIGSEGV)
            await context.untilStopped()
        }
    }

    @Test func aSignalThatWasSentIsWrittenDown() async throws {
        let directory = TestDirectory.make("killed")
        defer { directory.remove() }
        await #expect(processExitsWith: .signal(SIGSEGV)) { Killed.main() }
        let death = try #require(directory.deadProgram()?.death)
        #expect(death.signal == SIGSEGV)
        #expect(death.code <= 0)
        #expect(death.address == 0)
    }

    struct KilledForGood: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("for-good").path }
        func run(in context: Context) async throws { kill(getpid(), SIGKILL) }
    }

    @Test func whoIsKilledLeavesWhatHappenedBefore() async throws {
        let directory = TestDirectory.make("for-good")
        defer { directory.remove() }
        await #expect(processExitsWith: .signal(SIGKILL)) { KilledForGood.main() }
        let life = try #require(directory.deadProgram())
        #expect(life.death == nil)
        #expect(life.events.contains { $0.text == "/fort/main-0 started" }, "\(life.events)")
        #expect(DeathOfProgram(found: life).cause == .unknown)
    }

    struct Overflows: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("overflows").path }
        init() { say("\(recurse(0))") }
        func run(in context: Context) async throws {}
    }

    @Test func anOverflowOfTheMainThreadsStackIsWrittenDown() async throws {
        let directory = TestDirectory.make("overflows")
        defer { directory.remove() }
        await #expect(processExitsWith: .signal(SIGSEGV)) { Overflows.main() }
        let life = try #require(directory.deadProgram())
        #expect(life.death?.signal == SIGSEGV)
        #expect(life.death?.frames.count == 64)
        // The last of them may be whatever is called on the way.
        #expect(
            functions(life).dropFirst(4).allSatisfy {
                $0.contains("recurse") || $0.contains("withUnsafeMutablePointer")
            },
            "\(functions(life))"
        )
        #expect(life.stage == "starting")
    }

    struct TwoAtOnce: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("two").path }
        func run(in context: Context) async throws {
            for _ in 0..<8 {
                _ = PlainThread(name: "mine") {
                    while !Self.isOpen.load(ordering: .sequentiallyConsistent) {}
                    writeWild(at: 0x30)
                }
            }
            // The handler looks for the stack among all that is mapped: many mappings give the others time to come.
            let size = 10_000 * 4096
            if let region = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                region != MAP_FAILED
            {
                for page in stride(from: 0, to: size, by: 8192) { mprotect(region + page, 4096, PROT_READ) }
            }
            Self.isOpen.store(true, ordering: .sequentiallyConsistent)
            await context.untilStopped()
        }
        private static let isOpen = Atomic<Bool>(false)
    }

    @Test func ofSeveralThreadsThatFailAtOnceOneIsWrittenDownWhole() async throws {
        let directory = TestDirectory.make("two")
        defer { directory.remove() }
        await #expect(processExitsWith: .signal(SIGSEGV)) { TwoAtOnce.main() }
        let life = try #require(directory.deadProgram())
        #expect(life.death?.isComplete == true)
        #expect(life.death?.address == 0x30)
        #expect(functions(life).first?.contains("writeWild") ?? false, "\(functions(life))")
    }

    struct Forks: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("forks").path }
        init() {
            // Swift hides it, for good reason.
            let fork = unsafeBitCast(dlsym(nil, "fork"), to: (@convention(c) () -> pid_t).self)
            let child = fork()
            if child == 0 { writeWild(at: 0x60) }
            var status: Int32 = 0
            waitpid(child, &status, 0)
            say("child \(status & 0x7f)")
            writeWild(at: 0x70)
        }
        func run(in context: Context) async throws {}
    }

    @Test func theDeathOfACopyIsNotTheProgramsOwn() async throws {
        let directory = TestDirectory.make("forks")
        defer { directory.remove() }
        let result = await #expect(processExitsWith: .signal(SIGSEGV), observing: [\.standardOutputContent]) {
            Forks.main()
        }
        let words = output(result?.standardOutputContent)
        #expect(words.contains("child \(SIGSEGV)"))
        #expect(directory.deadProgram()?.death?.address == 0x70)
    }

    /// One that knows what to do: the program goes on.
    struct IsHelped: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("helped").path }
        func run(in context: Context) async throws {
            PlainThread(name: "mine") { raise(SIGSEGV) }.join()
            while Self.helped.load(ordering: .sequentiallyConsistent) == 0 { sched_yield() }
            _ = PlainThread(name: "mine") { writeWild(at: 0x40) }
            await context.untilStopped()
        }
        static let helped = Atomic<Int>(0)
    }

    @Test func aSignalThatAFormerHandlerDealsWithIsNoDeath() async throws {
        let directory = TestDirectory.make("helped")
        defer { directory.remove() }
        await #expect(processExitsWith: .exitCode(7)) {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in
                // The second time it is to be seen what is written then.
                if IsHelped.helped.add(1, ordering: .sequentiallyConsistent).newValue == 2 { _exit(7) }
            }
            sigaction(SIGSEGV, &action, nil)
            IsHelped.main()
        }
        let death = try #require(directory.deadProgram()?.death)
        #expect(death.address == 0x40)
        #expect(death.code > 0)
    }

    // MARK: The reports

    struct TrapsOnce: FortProgram {
        static var backoff: Backoff { .none }
        static var reportDirectory: String? { TestDirectory.ofParent("traps").path }
        func run(in context: Context) async throws {
            if context.restarts == 0 { say("\(opaque([1])[opaque(5)])") }
        }
    }

    @Test func aContainedTrapIsReportedAndNoDeath() async throws {
        let directory = TestDirectory.make("traps")
        defer { directory.remove() }
        await #expect(processExitsWith: .exitCode(0)) { TrapsOnce.main() }
        let names = directory.names
        #expect(names.count == 2, "\(names)")
        let json = directory.contents(of: try #require(names.first { $0.hasSuffix("-trap.json") }))
        #expect(json.contains(#""trap":"index out of range""#), "\(json)")
        #expect(json.contains(#""path":"/fort/main-0""#))
        #expect(json.contains(#""restarts":0"#))
        #expect(json.contains("TrapsOnce.run"))
        #expect(json.contains("trap (SIGILL) in /fort/main-0<0.") || json.contains("trap (SIGTRAP) in /fort/main-0<0."))
        #expect(json.hasSuffix("]}\n"))
        let text = directory.contents(of: try #require(names.first { $0.hasSuffix("-trap.txt") }))
        #expect(text.contains("/fort/main-0<0.") && text.contains("trapped: index out of range"), "\(text)")
    }

    struct Storm: FortProgram {
        static var backoff: Backoff { .none }
        static var reportDirectory: String? { TestDirectory.ofParent("storm").path }
        func run(in context: Context) async throws {
            if context.restarts < 100 { say("\(opaque([1])[opaque(5)])") }
        }
    }

    @Test func aStormOfTrapsIsNotReportedInFull() async throws {
        let directory = TestDirectory.make("storm")
        defer { directory.remove() }
        let started = ContinuousClock.now
        await #expect(processExitsWith: .exitCode(0)) { Storm.main() }
        let seconds = Int((ContinuousClock.now - started).components.seconds) + 2
        let reports = directory.names.filter { $0.hasSuffix(".json") }
        #expect((1...min(100, seconds * ReportWriter.rate)).contains(reports.count), "\(reports.count) in \(seconds) s")
        #expect(directory.names.count == reports.count * 2, "\(directory.names)")
    }

    struct Successor: FortProgram {
        static var reportDirectory: String? { TestDirectory.ofParent("successor").path }
        func run(in context: Context) async throws {
            guard let predecessor = Fort.predecessor else {
                await context.untilStopped()
                return
            }
            say("\(predecessor.cause) \(predecessor.incarnation) \(predecessor.process == nil)")
            say("\(predecessor.frames().contains { $0.contains("writeWild") })")
            say("\(predecessor.events.contains { $0.text == "/fort/main-0 started" }) \(predecessor.lifetime > .zero)")
        }
    }

    @Test func theNextProgramReportsAndKnowsWhyItsPredecessorDied() async throws {
        let directory = TestDirectory.make("successor")
        defer { directory.remove() }
        await #expect(processExitsWith: .signal(SIGSEGV)) {
            _ = PlainThread(name: "mine") {
                // Ends: the program begins.
                while TestDirectory.ofParent("successor").names.allSatisfy({ !$0.hasSuffix(RecordFile.ending) }) {}
                // Until the handler is there, too, which is after the record.
                while TestDirectory.ofParent("successor").deadProgram()?.stage != "ready" { sched_yield() }
                writeWild(at: 0x50)
            }
            Successor.main()
        }
        let died = try #require(directory.deadProgram())
        let result = await #expect(
            processExitsWith: .exitCode(0),
            observing: [\.standardOutputContent, \.standardErrorContent]
        ) { Successor.main() }
        #expect(output(result?.standardOutputContent) == "signal(11) 1 true\ntrue\ntrue true\n")
        let line = output(result?.standardErrorContent)
        #expect(line.contains("(\(died.pid)) died of SIGSEGV at 0x50; report: \(directory.path)/"), "\(line)")
        // The record is gone, as is that of the successor.
        let names = directory.names
        #expect(names.count == 2, "\(names)")
        let json = directory.contents(of: try #require(names.first { $0.hasSuffix("-\(died.pid)-death.json") }))
        #expect(json.contains(#""cause":"signal""#) && json.contains(#""address":"0x50""#), "\(json)")
        #expect(json.contains("writeWild"))
    }

    // MARK: Where reports cannot be written

    struct Unwritable: FortProgram {
        static var reportDirectory: String? { "/proc/none" }
        func run(in context: Context) async throws { say("ran") }
    }

    @Test func anUnwritableDirectoryEndsTheProgramWithALine() async {
        let result = await #expect(
            processExitsWith: .exitCode(73),
            observing: [\.standardOutputContent, \.standardErrorContent]
        ) { Unwritable.main() }
        let words = output(result?.standardOutputContent)
        #expect(!words.contains("ran"))
        let lines = output(result?.standardErrorContent).split(separator: "\n").filter { $0.contains("crash reports") }
        #expect(lines.count == 1)
        #expect(lines.first?.contains("cannot write crash reports: /proc/none") == true, "\(lines)")
    }

    private static func trap() -> TrapReport {
        TrapReport(
            kind: .nilUnwrapped,
            message: "m",
            signal: SIGILL,
            process: ProcID(rawValue: 5),
            name: "x",
            backtrace: []
        )
    }

    @Test func aDirectoryThatDisappearsIsTold() async throws {
        let directory = TestDirectory.make("disappears")
        defer { directory.remove() }
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            let directory = TestDirectory.ofParent("disappears")
            let record = ProcessRecord.unshared()!
            record.begin(program: "shop")
            let writer = ReportWriter(ReportDirectory(path: directory.path, limits: ReportLimits()), record)
            func report() {
                writer.add(DeathTests.trap(), restarts: 0)
                writer.blockingWait(atMost: .seconds(60))
            }
            report()
            directory.remove()
            for _ in 0..<3 { report() }
            mkdir(directory.path, 0o755)
            report()
            exit(0)
        }
        let lines = output(result?.standardErrorContent).split(separator: "\n").filter { $0.contains("crash reports") }
        #expect(lines.count == 2, "\(lines)")
        #expect(lines.first?.contains("No such file or directory") ?? false, "\(lines)")
        #expect(lines.last?.contains("are written again") ?? false, "\(lines)")
        let names = directory.names.filter { $0.hasSuffix(".json") }
        #expect(names.count == 1)
        #expect(directory.contents(of: names.first ?? "").contains(#""unreported":3"#))
    }

    @Test func aProgramThatIsKilledWhileItWritesLeavesNoHalfReport() async throws {
        let directory = TestDirectory.make("half")
        defer { directory.remove() }
        for last in 1...5 {
            await #expect(processExitsWith: .signal(SIGKILL)) { [last = last as Int] in
                let directory = ReportDirectory(
                    path: TestDirectory.ofParent("half").path,
                    limits: ReportLimits(count: 1000, bytes: 1 << 40)
                )
                let record = ProcessRecord.unshared()!
                record.begin(program: "shop")
                var life = LifeRecord(record)
                // Large, so that the kill comes in the middle of it.
                let event = FlightEvent(number: 1, time: .now, text: String(repeating: "x", count: 1000))
                life.events = Array(repeating: event, count: 4000)
                _ = PlainThread(name: "killer") {
                    // Ends: the reports are begun one after the other, and each has a temporary file first.
                    while begunReports.load(ordering: .sequentiallyConsistent) < last {}
                    while TestDirectory.ofParent("half").names.count == 0 {}
                    kill(getpid(), SIGKILL)
                }
                while true {
                    _ = begunReports.add(1, ordering: .sequentiallyConsistent)
                    let time = WallTime.now
                    _ = try? directory.write(
                        CrashReport(DeathOfProgram(life, .hang, status: SIGKILL, found: time), restarts: 0)
                    )
                }
            }
        }
        let names = directory.names.filter { !$0.hasPrefix(".") }
        for name in names {
            #expect(directory.contents(of: name).hasSuffix(name.hasSuffix(".json") ? "]}\n" : "xxx\n"), "\(name)")
        }
        // What is left of the others is out of the way.
        #expect(
            directory.names.filter { $0.hasPrefix(".") }.allSatisfy {
                ReportDirectory.finalName(ofTemporary: $0) != nil
            }
        )
    }

    // MARK: The reporter

    @Test func theReporterWritesTheReportOfARecord() async throws {
        let directory = TestDirectory.make("reporter")
        defer { directory.remove() }
        let result = await #expect(
            processExitsWith: .exitCode(0),
            observing: [\.standardOutputContent, \.standardErrorContent]
        ) {
            let path = TestDirectory.ofParent("reporter").path
            let descriptor = open("\(path)/record", O_RDWR | O_CREAT, 0o600)
            ftruncate(descriptor, off_t(ProcessRecord.byteCount))
            let record = ProcessRecord.map(descriptor)!
            record.pointer.pointee.incarnation = 4
            record.begin(program: "shop")
            record.note("before")
            record.leave("enough")
            let order = ReportOrder(
                record: descriptor,
                status: SIGKILL,
                cause: .outOfMemory,
                restarts: 3,
                limits: ReportLimits(),
                parent: getppid(),
                directory: path
            )
            for (name, value) in Reporter.environment(for: order) { setenv(name, value, 1) }
            WildInProcess.main()
        }
        let line = output(result?.standardErrorContent).split(separator: "\n").filter { $0.hasPrefix("shop ") }
        #expect(line.count == 1)
        #expect(
            line.first?.contains("was killed for want of memory: enough; report: \(directory.path)/") ?? false,
            "\(line)"
        )
        let names = directory.names.filter { $0.hasSuffix("-death.json") }
        #expect(names.count == 1)
        let json = directory.contents(of: names.first ?? "")
        #expect(json.contains(#""cause":"outOfMemory""#) && json.contains(#""restarts":3"#), "\(json)")
        #expect(json.contains(#""incarnation":4"#) && json.contains(#""lastWords":"enough""#), "\(json)")
        #expect(json.contains(#""text":"before""#), "\(json)")
    }
}

private let begunReports = Atomic<Int>(0)
