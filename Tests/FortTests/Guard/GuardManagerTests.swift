// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import Fort

/// What the guard tells a service manager.
@Suite(.timeLimit(.minutes(5))) struct GuardManagerTests {
    @Test(.enabled(if: !isSanitized, "sanitizers are slower than a second, and hold signals back"))
    func theGuardTellsTheServiceManagerWhatTheProgramDoes() async throws {
        let manager = manager()
        let fixture = try FixtureProcess(["NOTIFY_SOCKET": manager.name, "BASTION_STOP_DEADLINE": "1h"])
        let (port, program) = try await fixture.serving()
        #expect(await manager.next() == "READY=1 STATUS=Ready")
        // To the guard a death is no end.
        kill(program, SIGKILL)
        _ = try await fixture.serving()
        #expect(await manager.next() == "READY=1 STATUS=Ready")
        async let slow = ask(port, "stick")
        _ = try await fixture.line(containing: "sticking")
        kill(fixture.pid, SIGTERM)
        #expect(await manager.next().hasPrefix("STOPPING=1"))
        // Each second, as long as it takes.
        for _ in 1...2 { #expect(await manager.next().hasPrefix("EXTEND_TIMEOUT_USEC=")) }
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 143)
        #expect(await slow == .closed)
    }

    @Test func aReloadOfTheProgramIsTold() async throws {
        let manager = manager()
        let fixture = try FixtureProcess(["NOTIFY_SOCKET": manager.name])
        _ = try await fixture.serving()
        #expect(await manager.next() == "READY=1 STATUS=Ready")
        kill(fixture.pid, SIGHUP)
        _ = try await fixture.line(containing: "read anew")
        let words = await manager.next().split(separator: " ")
        #expect(words.first == "RELOADING=1" && words.last == "STATUS=Reloading", "\(words)")
        let since = UInt64(words.first { $0.hasPrefix("MONOTONIC_USEC=") }?.dropFirst(15) ?? "")
        #expect(since ?? 0 > 0, "\(words)")
        #expect(await manager.next() == "READY=1 STATUS=Ready")
    }

    @Test(arguments: ["return", "exit 0", "exit 9"]) func whoEndsForGoodIsToldToStopNothing(_ end: String) async throws
    {
        let manager = manager()
        let fixture = try FixtureProcess(["NOTIFY_SOCKET": manager.name, "FIXTURE_RESTARTS": "0"])
        let port = try await fixture.serving().port
        #expect(await manager.next() == "READY=1 STATUS=Ready")
        #expect(await ask(port, end) == .closed)
        #expect(await manager.next().hasPrefix("STOPPING=1"))
        #expect(await fixture.exitCode() == (end == "exit 9" ? 9 : 0))
        #expect(manager.received().map { $0.hasPrefix("EXTEND_TIMEOUT_USEC=") } ?? true)
    }

    // MARK: Signs of life

    @Test(.enabled(if: !isSanitized, "sanitizers are slower than a second, and hold signals back"))
    func signsOfLifeAreTheProgramsExecutorsWhereTheGuardDoesNotLook() async throws {
        let manager = manager()
        let fixture = try FixtureProcess(watched(by: manager, ["BASTION_WORKERS": "1"]))
        let port = try await fixture.serving().port
        // As long as it gets on.
        for _ in 1...5 { while await manager.next() != "WATCHDOG=1" {} }
        let words = Task { await untilItStops(manager) }
        async let stuck = ask(port, "stick")
        async let stuckToo = ask(port, "stick")
        for _ in 1...2 { _ = try await fixture.line(containing: "sticking") }
        await expectNoSignOfLife(of: fixture) { await words.value }
        #expect(await [stuck, stuckToo] == [.closed, .closed])
    }

    @Test(.enabled(if: !isSanitized, "sanitizers are slower than a second, and hold signals back"))
    func whoIsStuckBeforeItsExecutorBeginsGivesNoSignOfLife() async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let manager = manager()
        let path = "\(directory)/stuck"
        // The guard would look after a hang of the executor.
        let fixture = try FixtureProcess(watched(by: manager, ["FIXTURE_STUCK": path, "BASTION_HANG_TIME": "1h"]))
        let words = Task { await untilItStops(manager) }
        let program = try await fixture.serving().pid
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
        kill(program, SIGKILL)
        _ = try await fixture.line(containing: "stuck at the start")
        await expectNoSignOfLife(of: fixture) { await words.value }
    }

    private func manager() -> PretendedManager {
        PretendedManager("@bastion-guard-\(getpid())-\(UInt64.random(in: 0...UInt64.max))")
    }

    /// The manager waits for a sign of life each 400 ms, the guard looks four times as often.
    private func watched(by manager: PretendedManager, _ others: [String: String]) -> [String: String] {
        [
            "NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "400000", "BASTION_HANG_TIME": "never",
            "BASTION_STOP_DEADLINE": "1h",
        ].merging(others) { $1 }
    }

    /// The guard is told to stop: from then on it asks for more time each second, and between the second time and the third one it would have told of
    /// ten signs of life. Then it is forced.
    ///
    /// - Parameter words: What `untilItStops` says.
    private func expectNoSignOfLife(of fixture: FixtureProcess, _ words: @Sendable () async -> [String]) async {
        kill(fixture.pid, SIGTERM)
        let last = await words().suffix(2)
        #expect(last.allSatisfy { $0.hasPrefix("EXTEND_TIMEOUT_USEC=") }, "\(last)")
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() > 128)
    }

    /// All that the manager is told until it was asked for more time three times. Only few messages wait, so that somebody has to take them all the
    /// time: others are lost.
    private func untilItStops(_ manager: PretendedManager) async -> [String] {
        var words: [String] = []
        while words.count(where: { $0.hasPrefix("EXTEND_TIMEOUT_USEC=") }) < 3 { words.append(await manager.next()) }
        return words
    }
}
