// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import Testing

@testable import Fort

/// The first process of a container: a name space of process numbers of its own. Skipped where none can be made.
@Suite(
    .timeLimit(.minutes(5)),
    .enabled(if: ProcessSpace.isAvailable, "no name space of processes can be made here")
)
struct GuardAsInitTests {
    @Test(arguments: [true, false]) func itCollectsOrphans(_ isGuarded: Bool) async throws {
        let (fixture, port, _) = try await start(isGuarded)
        guard case .line(let orphan) = await ask(port, "orphan") else { return #expect(Bool(false), "refused") }
        #expect((Int(orphan) ?? 0) > 0)
        // Ends: who has ended and was not collected would be there for ever.
        while await ask(port, "exists \(orphan)") == .line("yes") {}
        #expect(await ask(port, "exists \(orphan)") == .line("no"))
        withExtendedLifetime(fixture) {}
    }

    @Test(arguments: [true, false]) func itHandsARequestToStopOn(_ isGuarded: Bool) async throws {
        let (fixture, port, program) = try await start(isGuarded)
        async let slow = ask(port, "wait")
        _ = try await fixture.line(containing: "waiting")
        kill(try #require(ProcessSpace.child(of: fixture.pid)), SIGTERM)
        _ = try await fixture.line(containing: "stopped \(program)")
        #expect(await slow == .line("waited \(program)"))
        #expect(await fixture.exitCode() == 0)
    }

    @Test(arguments: [true, false]) func itEndsAsTheProgramDoes(_ isGuarded: Bool) async throws {
        let (fixture, port, _) = try await start(isGuarded, ["FIXTURE_RESTARTS": "0"])
        #expect(await ask(port, "exit 7") == .closed)
        #expect(await fixture.exitCode() == 7)
    }

    @Test func guardedItStartsTheProgramAgain() async throws {
        let (fixture, port, program) = try await start(true)
        #expect(await ask(port, "segv") == .closed)
        let again = try await fixture.serving()
        #expect(again.port == port && again.pid != program)
        guard case .line(let answer) = await ask(port, "predecessor") else { return #expect(Bool(false), "refused") }
        #expect(answer.hasPrefix("\(program) died of SIGSEGV at 0x10"), "\(answer)")
    }

    private func start(
        _ isGuarded: Bool,
        _ variables: [String: String] = [:]
    ) async throws -> (FixtureProcess, UInt16, pid_t) {
        var variables = variables
        if !isGuarded { variables["FIXTURE_UNGUARDED"] = "1" }
        let fixture = try FixtureProcess(variables, launcher: ProcessSpace.launcher)
        let (port, program) = try await fixture.serving()
        // The guard is number 1 there.
        #expect((2...9).contains(program))
        return (fixture, port, program)
    }
}

private enum ProcessSpace {
    /// Dies with its child, and the child with it.
    static let launcher =
        ["unshare"] + (geteuid() == 0 ? [] : ["--user", "--map-root-user"])
        + ["--pid", "--fork", "--kill-child", "--mount-proc"]

    static let isAvailable: Bool = {
        var arguments = (launcher + ["true"]).map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var child: pid_t = 0
        guard posix_spawnp(&child, launcher[0], &actions, nil, &arguments, environ) == 0 else { return false }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        return status == 0
    }()

    /// The only one.
    static func child(of pid: pid_t) -> pid_t? {
        FileTree().text(at: "/proc/\(pid)/task/\(pid)/children")?.split(separator: " ").first.flatMap { pid_t($0) }
    }
}
