// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Testing

@testable import Fort

/// A real guard around a real program.
@Suite(.timeLimit(.minutes(5))) struct GuardTests {
    @Test(arguments: ["segv", "exit 3", "SIGKILL", "SIGSEGV"]) func whateverItDiesOfItIsStartedAgain(
        _ death: String
    ) async throws {
        let fixture = try FixtureProcess()
        let (port, first) = try await fixture.serving()
        #expect(first != fixture.pid)
        #expect(await ask(port, "pid") == .line("\(first)"))
        switch death {
        case "SIGKILL": kill(first, SIGKILL)
        case "SIGSEGV": kill(first, SIGSEGV)
        default: #expect(await ask(port, death) == .closed)
        }
        let line = try await fixture.line(containing: "guard: the program (\(first)) ")
        #expect(line.contains("starting it again"), "\(line)")
        // The socket is the guard's: this waits until it is accepted.
        guard case .line(let second) = await ask(port, "pid") else { return #expect(Bool(false), "refused") }
        #expect(second != "\(first)")
        let again = try await fixture.serving()
        #expect(again.port == port)
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    /// The sanitizers have an allocator of their own, which says it in its way.
    @Test(arguments: isSanitized ? ["abort"] : ["abort", "corrupt"]) func whoAbortsItselfIsStartedAgainAndKnowsWhy(
        _ death: String
    ) async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let fixture = try FixtureProcess(["BASTION_REPORT_DIRECTORY": directory])
        let (port, first) = try await fixture.serving()
        #expect(await ask(port, death) == .closed)
        let summary = "fort-fixture (\(first)) died of SIGABRT"
        let lines = try await fixture.lines(containing: "guard: the program (\(first)) ", "serving \(port) ", summary)
        let restart = try #require(lines.first { $0.contains("starting it again") })
        #expect(restart.contains("was ended by signal 6 (Aborted)"), "\(restart)")
        guard case .line(let answer) = await ask(port, "predecessor") else { return #expect(Bool(false), "refused") }
        // Only what the worker ran has a process.
        let process = death == "corrupt" ? " in /fort/main-0" : ""
        #expect(answer.hasPrefix("\(first) died of SIGABRT\(process)"), "\(answer)")
        let report = try #require(reports(in: directory).first)
        #expect(report.contains(#""cause":"signal""#) && report.contains(#""name":"SIGABRT""#), "\(report)")
        #expect(report.contains(death == "corrupt" ? #""name":"bastion-worker""# : #""name":"aborting""#), "\(report)")
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    @Test(arguments: [true, false]) func theMainActorWorks(_ isGuarded: Bool) async throws {
        let fixture = try FixtureProcess(isGuarded ? [:] : ["FIXTURE_UNGUARDED": "1"])
        let port = try await fixture.serving().port
        #expect(await ask(port, "main") == .line("main"))
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    @Test func withoutAGuardTheSocketOutlivesTheBodyAndAHandoverIsRefused() async throws {
        let fixture = try FixtureProcess(["FIXTURE_UNGUARDED": "1"])
        let (port, program) = try await fixture.serving()
        #expect(program == fixture.pid)
        #expect(await ask(port, "body") == .closed)
        let again = try await fixture.serving()
        #expect(again.port == port && again.pid == program)
        #expect(await ask(port, "pid") == .line("\(program)"))
        kill(program, SIGUSR2)
        _ = try await fixture.line(containing: "no handover: SIGUSR2 is for the guard, and there is none")
        #expect(await ask(port, "exhaust") == .closed)
        #expect(await fixture.exitCode() == 75)
    }

    @Test func aTrapInARequestIsNoDeath() async throws {
        let fixture = try FixtureProcess()
        let (port, program) = try await fixture.serving()
        #expect(await ask(port, "trap") == .closed)
        #expect(await ask(port, "pid") == .line("\(program)"))
    }

    @Test func whenTheBudgetIsExceededItEndsWithTheChildsCode() async throws {
        let fixture = try FixtureProcess(["FIXTURE_RESTARTS": "2"])
        var (port, program) = try await fixture.serving()
        for _ in 1...2 {
            kill(program, SIGSEGV)
            (port, program) = try await fixture.serving()
        }
        #expect(await ask(port, "exit 7") == .closed)
        #expect(await fixture.exitCode() == 7)
        let rest = await fixture.rest()
        #expect(rest.contains { $0.contains("exited with 7; giving up after more than 2 restarts") }, "\(rest)")
        #expect(await ask(port, "pid") == .refused(ECONNREFUSED))
    }

    @Test func whileItIsKilledAgainAndAgainNoConnectionIsRefused() async throws {
        let fixture = try FixtureProcess()
        let (port, first) = try await fixture.serving()
        let isOver = Locked(false)
        async let answers = Task.detached {
            var answers: [FixtureProcess.Answer] = []
            while !isOver.withLock({ $0 }) { answers.append(await ask(port, "pid")) }
            return answers
        }.value
        var program = first
        for _ in 1...10 {
            kill(program, SIGKILL)
            program = try await fixture.serving().pid
        }
        isOver.withLock { $0 = true }
        let refused = await answers.filter { if case .refused = $0 { true } else { false } }
        #expect(refused == [])
        #expect(await answers.contains { if case .line = $0 { true } else { false } })
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    @Test func theGuardSurvivesAllButTheOneSignalAndThenTheProgramDiesWithIt() async throws {
        let fixture = try FixtureProcess()
        let (port, program) = try await fixture.serving()
        // All of them but those that stop it, or that it passes on. 32 and 33 are the C library's own.
        let others = [SIGKILL, SIGSTOP, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH]
        for signal in Int32(1)...64 where !others.contains(signal) { #expect(kill(fixture.pid, signal) == 0) }
        // The guard has read them before it passes this on.
        kill(fixture.pid, SIGHUP)
        _ = try await fixture.line(containing: "read anew")
        #expect(await ask(port, "pid") == .line("\(program)"))
        kill(fixture.pid, SIGKILL)
        #expect(await fixture.exitCode() == 137)
        // Both held the output: it ends when both are dead.
        _ = await fixture.rest()
        #expect(await ask(port, "pid") == .refused(ECONNREFUSED))
    }

    @Test(.enabled(if: !isSanitized, "sanitizers are slower than a second, and hold signals back"))
    func aSecondRequestToStopForces() async throws {
        let fixture = try FixtureProcess(["BASTION_STOP_DEADLINE": "1h"])
        let (port, program) = try await fixture.serving()
        async let stuck = ask(port, "stick")
        _ = try await fixture.line(containing: "sticking")
        kill(fixture.pid, SIGTERM)
        _ = try await fixture.line(containing: "stopping")
        kill(fixture.pid, SIGTERM)
        let code = await fixture.exitCode()
        let words = await fixture.rest()
        #expect(code == 143, "\(words)")
        #expect(await stuck == .closed)
        #expect(kill(program, 0) != 0)
    }

    // MARK: Handovers

    @Test func aHandoverLosesNoRequest() async throws {
        let fixture = try FixtureProcess()
        let (port, first) = try await fixture.serving()
        async let slow = ask(port, "wait")
        _ = try await fixture.line(containing: "waiting")
        kill(fixture.pid, SIGUSR2)
        // In any order, but for what the guard says.
        try await fixture.lines(
            containing: "serving \(port) ",
            " is ready, \(first) is to stop",
            "stopping",
            "guard: \(first) has stopped"
        )
        // The old one has answered what it had begun.
        #expect(await slow == .line("waited \(first)"))
        guard case .line(let second) = await ask(port, "pid") else { return #expect(Bool(false), "refused") }
        #expect(second != "\(first)")
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    @Test func whatTheLinkNamesByThenTakesOver() async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let (link, next) = ("\(directory)/program", "\(directory)/next")
        try copyFile(FixtureProcess.path, to: next)
        try #require(symlink(FixtureProcess.path, link) == 0)
        let fixture = try FixtureProcess(path: link)
        let (port, first) = try await fixture.serving()
        guard case .line(let former) = await ask(port, "executable") else { return #expect(Bool(false), "refused") }
        #expect(former.hasSuffix("/fort-fixture"))
        async let slow = ask(port, "wait")
        _ = try await fixture.line(containing: "waiting")
        let isOver = Locked(false)
        async let answers = Task.detached {
            var answers: [FixtureProcess.Answer] = []
            repeat { answers.append(await ask(port, "executable")) } while !isOver.withLock { $0 }
            return answers
        }.value
        // As a release is switched: at no time there is none.
        try #require(symlink(next, "\(link).new") == 0 && rename("\(link).new", link) == 0)
        kill(fixture.pid, SIGUSR2)
        try await fixture.lines(containing: "serving \(port) ", "guard: \(first) has stopped")
        isOver.withLock { $0 = true }
        #expect(await slow == .line("waited \(first)"))
        #expect(await ask(port, "executable") == .line(next))
        let refused = await answers.filter { ![.line(former), .line(next), .closed].contains($0) }
        #expect(refused == [])
        // What dies now is started from there, too.
        #expect(await ask(port, "segv") == .closed)
        _ = try await fixture.serving()
        #expect(await ask(port, "executable") == .line(next))
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    @Test func aNewExecutableThatFailsLeavesTheOldProgram() async throws {
        let link = "/tmp/bastion-fixture-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
        #expect(symlink(FixtureProcess.path, link) == 0)
        defer { unlink(link) }
        let fixture = try FixtureProcess(["FIXTURE_EXECUTABLE": link])
        let (port, program) = try await fixture.serving()
        unlink(link)
        kill(fixture.pid, SIGUSR2)
        var line = try await fixture.line(containing: "guard: the new program")
        #expect(line.contains("\(link) cannot be started: No such file or directory: the old one goes on"), "\(line)")
        #expect(symlink("/bin/false", link) == 0)
        kill(fixture.pid, SIGUSR2)
        line = try await fixture.line(containing: "guard: the new program")
        #expect(line.contains("exited with 1: the old one goes on"), "\(line)")
        #expect(await ask(port, "pid") == .line("\(program)"))
    }

    @Test func whoseLeakBudgetIsExhaustedIsReplaced() async throws {
        let fixture = try FixtureProcess()
        let (port, first) = try await fixture.serving()
        #expect(await ask(port, "exhaust") == .closed)
        try await fixture.lines(containing: "serving \(port) ", "guard: \(first) has stopped")
        guard case .line(let second) = await ask(port, "pid") else { return #expect(Bool(false), "refused") }
        #expect(second != "\(first)")
        guard case .line(let answer) = await ask(port, "predecessor") else { return #expect(Bool(false), "refused") }
        #expect(answer.hasPrefix("\(first) was replaced: its contained traps had leaked "), "\(answer)")
    }

    @Test func nothingLeaksOverDeathsAndHandovers() async throws {
        let fixture = try FixtureProcess()
        var (port, program) = try await fixture.serving()
        func once() async throws {
            kill(program, SIGKILL)
            program = try await fixture.serving().pid
            kill(fixture.pid, SIGUSR2)
            try await fixture.lines(containing: "serving \(port) ", "guard: \(program) has stopped")
            guard case .line(let pid) = await ask(port, "pid") else { return #expect(Bool(false), "refused") }
            program = pid_t(pid) ?? 0
        }
        // The first death leaves a record to its successor, as all after it do.
        try await once()
        let before = descriptors(of: fixture.pid)
        let programsBefore = await openDescriptors(at: port)
        let rounds = 6
        for _ in 1...rounds { try await once() }
        // Ends: what was used by the last one is closed in the end.
        while descriptors(of: fixture.pid) != before { await Task.yield() }
        // Beside the same ones a program has up to four of libdispatch's, from when that has something to wait for.
        while await openDescriptors(at: port) >= programsBefore + rounds {}
    }

    // MARK: What is left of the dead

    @Test func theNextOneKnowsWhyItsPredecessorDiedAndAReportIsWritten() async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let fixture = try FixtureProcess(["BASTION_REPORT_DIRECTORY": directory])
        let (port, first) = try await fixture.serving()
        #expect(await ask(port, "predecessor") == .line("none"))
        #expect(await ask(port, "segv") == .closed)
        let death = "fort-fixture (\(first)) died of SIGSEGV at 0x10"
        let lines = try await fixture.lines(containing: "serving ", death)
        guard case .line(let answer) = await ask(port, "predecessor") else { return #expect(Bool(false), "refused") }
        #expect(answer.hasPrefix("\(first) died of SIGSEGV at 0x10 in /fort/main-0"), "\(answer)")
        let line = try #require(lines.first { $0.contains(death) })
        let path = try #require(line.split(separator: " ").last.map(String.init))
        #expect(path.hasPrefix(directory))
        #expect(access(path, R_OK) == 0)
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    // MARK: Hangs

    @Test(.enabled(if: !isSanitized, "sanitizers are slower than a second, and hold signals back"))
    func whoseExecutorHangsIsKilledAndStartedAgain() async throws {
        let fixture = try FixtureProcess(["BASTION_HANG_TIME": "3s", "BASTION_WORKERS": "1"])
        let (port, first) = try await fixture.serving()
        // The worker, and who stands in for it.
        async let stuck = ask(port, "stick")
        async let stuckToo = ask(port, "stick")
        for _ in 1...2 { _ = try await fixture.line(containing: "sticking") }
        // Whichever it is by now: on a machine that has much else to do one may have been killed before.
        _ = try await fixture.line(containing: "gives no sign of life: killing it")
        let line = try await fixture.line(containing: " hung and was killed")
        #expect(line.contains("starting it again"), "\(line)")
        #expect(try await fixture.serving().pid != first)
        kill(fixture.pid, SIGKILL)
        #expect(await [stuck, stuckToo] == [.closed, .closed])
    }

    @Test func afterAHandoverThereIsNoPredecessor() async throws {
        let fixture = try FixtureProcess()
        let (port, first) = try await fixture.serving()
        #expect(await ask(port, "segv") == .closed)
        let second = try await fixture.serving().pid
        guard case .line(let answer) = await ask(port, "predecessor") else { return #expect(Bool(false), "refused") }
        #expect(answer.hasPrefix("\(first) died of SIGSEGV"), "\(answer)")
        kill(fixture.pid, SIGUSR2)
        try await fixture.lines(containing: "serving \(port) ", "guard: \(second) has stopped")
        #expect(await ask(port, "predecessor") == .line("none"))
        guard case .line(let third) = await ask(port, "pid") else { return #expect(Bool(false), "refused") }
        #expect(await ask(port, "exit 3") == .closed)
        _ = try await fixture.serving()
        #expect(await ask(port, "predecessor") == .line("\(third) ended with status 3"))
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    @Test(.enabled(if: !isSanitized, "sanitizers are slower than a second, and hold signals back"))
    func whatDiesInAHandoverIsNobodysPredecessor() async throws {
        // It is this test that kills it while it stops, and nobody else does before.
        let fixture = try FixtureProcess(["BASTION_STOP_DEADLINE": "1h", "BASTION_HANG_TIME": "never"])
        let (port, first) = try await fixture.serving()
        async let slow = ask(port, "wait")
        _ = try await fixture.line(containing: "waiting")
        async let stuck = ask(port, "stick")
        _ = try await fixture.line(containing: "sticking")
        kill(fixture.pid, SIGUSR2)
        try await fixture.lines(containing: "serving \(port) ", "stopping")
        // What was the program, and has not stopped yet.
        kill(first, SIGKILL)
        _ = try await fixture.line(containing: "guard: \(first), told to stop, was ended by signal 9")
        _ = await (slow, stuck)
        guard case .line(let second) = await ask(port, "pid") else { return #expect(Bool(false), "refused") }
        kill(fixture.pid, SIGUSR2)
        try await fixture.lines(containing: "serving \(port) ", "guard: \(second) has stopped")
        #expect(await ask(port, "predecessor") == .line("none"))
    }

    // MARK: The tests themselves

    @Test func whatATestHasStartedEndsWithTheTestsWhateverTheyDieOf() async throws {
        let result = await #expect(processExitsWith: .signal(SIGKILL), observing: [\.standardOutputContent]) {
            let fixture = try FixtureProcess()
            report("\(try await fixture.serving().port)")
            kill(getpid(), SIGKILL)
        }
        let text = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self)
        let port = try #require(UInt16(text.split(separator: "\n").last ?? ""))
        // Ends: the guard sees that the program that has started it is gone, and its child goes with it.
        while await ask(port, "pid") != .refused(ECONNREFUSED) {}
    }

    @Test func whoIsNotReadyInTimeIsKilledAndStartedAgain() async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let stuck = "\(directory)/stuck"
        close(open(stuck, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
        let fixture = try FixtureProcess(["FIXTURE_STUCK": stuck, "BASTION_START_DEADLINE": "5s"])
        _ = try await fixture.line(containing: "stuck at the start")
        unlink(stuck)
        _ = try await fixture.line(containing: "takes too long: killing it")
        let line = try await fixture.line(containing: " was not ready in time and was killed after ")
        #expect(line.contains("starting it again"), "\(line)")
        let port = try await fixture.serving().port
        guard case .line(let answer) = await ask(port, "predecessor") else { return #expect(Bool(false), "refused") }
        #expect(answer.hasSuffix(" was not ready in time and was killed"), "\(answer)")
    }

    // MARK: What goes wrong later

    @Test func aReportDirectoryThatIsGoneKeepsNoProgramFromRunning() async throws {
        let directory = try temporaryDirectory()
        let fixture = try FixtureProcess(["BASTION_REPORT_DIRECTORY": directory])
        let program = try await fixture.serving().pid
        removeDirectory(directory)
        // So that nobody makes it.
        close(open(directory, O_CREAT | O_EXCL | O_CLOEXEC, 0o600))
        defer { unlink(directory) }
        kill(program, SIGKILL)
        try await fixture.lines(containing: "cannot write crash reports for now: \(directory)", "serving ")
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    /// The pipe that the program writes what it says to has no reader any more.
    @Test func whoseWordsNobodyReadsContainsTrapsAllTheSame() async throws {
        let fixture = try FixtureProcess()
        let (port, program) = try await fixture.serving()
        #expect(await ask(port, "deaf") == .line("deaf"))
        for _ in 0..<5 { #expect(await ask(port, "trap") == .closed) }
        #expect(await ask(port, "pid") == .line("\(program)"))
    }

    /// A process that writes a report, and never gets there.
    @Test func whoWritesAReportForEverDoesNotOutliveTheGuard() async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let script = "\(directory)/program"
        let text = """
            #!/bin/sh
            [ -z "$BASTION_INTERNAL_REPORT" ] && exec "\(FixtureProcess.path)"
            echo writing
            exec sleep 1000

            """
        let file = open(script, O_WRONLY | O_CREAT | O_CLOEXEC, 0o700)
        try #require(text.withCString { write(file, $0, strlen($0)) } == text.utf8.count)
        close(file)
        let fixture = try FixtureProcess(["FIXTURE_EXECUTABLE": script, "BASTION_REPORT_DIRECTORY": directory])
        kill(try await fixture.serving().pid, SIGKILL)
        try await fixture.lines(containing: "writing", "serving ")
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
        // It held the output, too: this returns when it is dead.
        _ = await fixture.rest()
    }

    // MARK: Several bodies

    @Test func aProgramIsReadyWhenEachOfItsBodiesIs() async throws {
        let fixture = try FixtureProcess(["BASTION_REDUNDANCY": "2"])
        let (port, program) = try await fixture.serving()
        kill(fixture.pid, SIGUSR2)
        _ = try await fixture.line(containing: "no handover: the program is not ready itself")
        #expect(await ask(port, "second") == .line("told"))
        _ = try await fixture.line(containing: "ready too \(program)")
        kill(fixture.pid, SIGUSR2)
        _ = try await fixture.line(containing: "handing over from \(program)")
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
    }

    @Test func whoIsReplacedIsToldSo() async throws {
        let fixture = try FixtureProcess()
        let program = try await fixture.serving().pid
        kill(fixture.pid, SIGUSR2)
        // In any order: the one tells when it is ready, and then says that it serves.
        let lines = try await fixture.lines(containing: "serving ", "replaced \(program)", "stopped \(program)")
        let next = try #require(lines.first { $0.hasPrefix("serving ") }?.split(separator: " ").last)
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
        #expect(await !fixture.rest().contains("replaced \(next)"))
    }

    // MARK: Wrong use

    @Test(arguments: ["FIXTURE_EXECUTABLE", "BASTION_EXECUTABLE"]) func aMissingExecutableIsOneLineAndAnExitCode(
        _ variable: String
    ) async throws {
        let fixture = try FixtureProcess([variable: "/nowhere/program"])
        #expect(await fixture.exitCode() == 72)
        let rest = await fixture.rest()
        #expect(rest.count == 1, "\(rest)")
        #expect(
            rest.first?.hasSuffix("guard: the program /nowhere/program cannot be started: No such file or directory")
                ?? false,
            "\(rest)"
        )
    }

    @Test func aReportDirectoryThatCannotBeWrittenIsOneLineAndAnExitCode() async throws {
        let fixture = try FixtureProcess(["BASTION_REPORT_DIRECTORY": "/proc/nowhere"])
        #expect(await fixture.exitCode() == 73)
        let rest = await fixture.rest()
        #expect(rest.count == 1, "\(rest)")
        #expect(rest.first?.contains("cannot write crash reports: /proc/nowhere") ?? false, "\(rest)")
    }

    @Test func aWrongOptionIsOneLineAndAnExitCode() async throws {
        let fixture = try FixtureProcess(["BASTION_BACKOFF": "soon"])
        #expect(await fixture.exitCode() == 64)
        let rest = await fixture.rest()
        #expect(rest.count == 1, "\(rest)")
        #expect(rest.first?.contains("BASTION_BACKOFF=soon cannot be used") ?? false, "\(rest)")
    }

    /// The body throws what it got, and that is all; `careless`: without saying when it is ready, so that it has been by then.
    @Test(arguments: ["guarded", "careless", "unguarded"]) func aPortThatIsTakenIsOneLineAndAnExitCode(
        _ kind: String
    ) async throws {
        let other = try FixtureProcess()
        let port = try await other.serving().port
        var variables = ["FIXTURE_PORT": "\(port)"]
        if kind != "guarded" { variables["FIXTURE_\(kind.uppercased())"] = "1" }
        let fixture = try FixtureProcess(variables)
        #expect(await fixture.exitCode() == 69)
        // On a busy machine the start may hold up a worker for so long that it is told, with its stack.
        let rest = await fixture.rest().filter { !$0.contains("[Supervision] worker ") && !$0.hasPrefix("  ") }
        #expect(rest.count == 1, "\(rest)")
        #expect(
            rest.first?.contains("cannot listen on 127.0.0.1:\(port): somebody else does already") ?? false,
            "\(rest)"
        )
    }
}

let isSanitized = dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil

private func openDescriptors(at port: UInt16) async -> Int {
    guard case .line(let count) = await ask(port, "descriptors") else { return .max }
    return Int(count) ?? .max
}

private func descriptors(of pid: pid_t) -> Int {
    guard let directory = opendir("/proc/\(pid)/fd") else { return -1 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    return count
}
