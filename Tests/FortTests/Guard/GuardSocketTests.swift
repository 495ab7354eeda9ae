// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Testing

@testable import Fort

/// Sockets that the guard keeps: Unix sockets, and those that a service manager has opened.
@Suite(.timeLimit(.minutes(5))) struct GuardSocketTests {
    @Test func aUnixSocketOutlivesDeathsAndHandovers() async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let path = "\(directory)/socket"
        let fixture = try FixtureProcess(["FIXTURE_UNIX": path])
        let first = try await fixture.serving().pid
        #expect(await ask(unixPath: path, "pid") == .line("\(first)"))
        try await outlives(fixture, first) { await ask(unixPath: path, $0) }
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
        // Nobody listens there any more; the file is the next one's to replace.
        #expect(await ask(unixPath: path, "pid") == .refused(ECONNREFUSED))
        let next = try FixtureProcess(["FIXTURE_UNIX": path])
        let program = try await next.serving().pid
        #expect(await ask(unixPath: path, "pid") == .line("\(program)"))
    }

    /// As a service manager passes them: two, of which the program wants the second, by its name or by what it is bound to.
    @Test(arguments: ["name", "port", "path"]) func socketsOfAServiceManagerOutliveDeathsAndHandovers(
        _ way: String
    ) async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let path = "\(directory)/socket"
        let other = try listener(port: 0)
        let passed = way == "path" ? try listener(path: path) : try listener(port: 0)
        let port = portNumber(of: passed)
        let wish =
            switch way {
            case "name": ["FIXTURE_NAMED": "second"]
            case "port": ["FIXTURE_PORT": "\(port)"]
            default: ["FIXTURE_UNIX": path]
            }
        let fixture = try FixtureProcess(
            wish.merging(["LISTEN_FDS": "2", "LISTEN_FDNAMES": "first:second"]) { wish, _ in wish },
            launcher: ["/bin/sh", "-c", "LISTEN_PID=$$ exec \"$0\""],
            passing: [other, passed]
        )
        // Its own ones are the tests' no more: whoever is refused is refused by the guard.
        close(other)
        close(passed)
        let question: @Sendable (String) async -> FixtureProcess.Answer = {
            way == "path" ? await ask(unixPath: path, $0) : await ask(port, $0)
        }
        let first = try await fixture.serving().pid
        #expect(await question("pid") == .line("\(first)"))
        try await outlives(fixture, first, question)
        kill(fixture.pid, SIGTERM)
        #expect(await fixture.exitCode() == 0)
        #expect(await question("pid") == .refused(ECONNREFUSED))
    }

    @Test func aNameThatTheServiceManagerHasNotPassedIsOneLineAndAnExitCode() async throws {
        let fixture = try FixtureProcess(["FIXTURE_NAMED": "nobody"])
        #expect(await fixture.exitCode() == 78)
        let rest = await fixture.rest()
        #expect(rest.count == 1 && rest[0].contains("no socket is called nobody"), "\(rest)")
    }

    // MARK: Sockets that nobody wants any more

    @Test(arguments: [true, false]) func aSocketThatIsGivenBackIsClosed(_ isGuarded: Bool) async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let more = "\(directory)/more"
        var variables = ["FIXTURE_MORE": more]
        if !isGuarded { variables["FIXTURE_UNGUARDED"] = "1" }
        let fixture = try FixtureProcess(variables)
        let port = try await fixture.serving().port
        for _ in 1...2 {
            #expect(await ask(port, "more") == .line("asked"))
            // Nobody accepts it.
            async let waiting = ask(unixPath: "\(more).socket", "pid")
            #expect(await ask(port, "less") == .line("given back"))
            #expect([.closed, .refused(ECONNREFUSED)].contains(await waiting))
            // Ends: the guard comes to that. A connection that comes before waits for it.
            while await ask(unixPath: "\(more).socket", "pid") != .refused(ECONNREFUSED) {}
        }
        // What was never there.
        #expect(await ask(port, "less") == .line("given back"))
        guard case .line = await ask(port, "pid") else { return #expect(Bool(false), "refused") }
    }

    @Test func whatTheNewProgramDoesNotAskForIsClosedWhenTheHandoverIsOver() async throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        let more = "\(directory)/more"
        close(open(more, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
        let fixture = try FixtureProcess(["FIXTURE_MORE": more])
        let (port, first) = try await fixture.serving()
        // A death changes nothing, whoever asks then.
        unlink(more)
        kill(first, SIGKILL)
        let second = try await fixture.serving().pid
        async let waiting = ask(unixPath: "\(more).socket", "pid")
        #expect(await ask(port, "pid") == .line("\(second)"))
        async let slow = ask(port, "wait")
        _ = try await fixture.line(containing: "waiting")
        kill(fixture.pid, SIGUSR2)
        try await fixture.lines(containing: "serving \(port) ", "guard: \(second) has stopped")
        #expect(await slow == .line("waited \(second)"))
        #expect(await ask(unixPath: "\(more).socket", "pid") == .refused(ECONNREFUSED))
        #expect([.closed, .refused(ECONNREFUSED)].contains(await waiting))
        // What it has asked for is there.
        guard case .line(let third) = await ask(port, "pid") else { return #expect(Bool(false), "refused") }
        #expect(third != "\(second)")
    }

    @Test func aSocketIsKeptForWhoeverHasAskedForIt() throws {
        let directory = try temporaryDirectory()
        defer { removeDirectory(directory) }
        var table = ListenerTable()
        let path = "\(directory)/socket"
        let address = withUnsafeBytes(of: FixtureProcess.unixAddress(path)) { Array($0) }
        let request = ListenRequest(name: path, address: address, backlog: 1)
        // The old one gives back what the new one has asked for: it is that one's.
        let first = try identity(table.descriptor(for: request, by: 1))
        #expect(try identity(table.descriptor(for: request, by: 2)) == first)
        table.giveBack(path, by: 1)
        #expect(try identity(table.descriptor(for: request, by: 2)) == first)
        // It is kept over deaths, and by who asks for it.
        table.ended(2)
        table.giveBack("another", by: 3)
        #expect(try identity(table.descriptor(for: request, by: 3)) == first)
        table.closeAll(notOf: 3)
        #expect(try identity(table.descriptor(for: request, by: 3)) == first)
        #expect(!isRefused(path))
        table.giveBack(path, by: 3)
        // Ends: a program that is being started has it for a moment.
        while !isRefused(path) {}
        // Another one, at the same place.
        _ = try table.descriptor(for: request, by: 4).get()
        #expect(!isRefused(path))
        table.closeAll(notOf: 5)
        while !isRefused(path) {}
    }

    /// The number of a descriptor may be another socket's by then.
    private func identity(_ descriptor: Result<CInt, ErrorNumber>) throws -> ino_t {
        var status = stat()
        try #require(fstat(descriptor.get(), &status) == 0)
        return status.st_ino
    }

    private func isRefused(_ path: String) -> Bool {
        let probe = socket(
            AF_UNIX,
            CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue),
            0
        )
        defer { close(probe) }
        let status = withUnsafePointer(to: FixtureProcess.unixAddress(path)) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(probe, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        return status != 0 && errno == ECONNREFUSED
    }

    /// A program is killed, and then replaced, while somebody asks all the time: nobody is refused.
    private func outlives(
        _ fixture: FixtureProcess,
        _ first: pid_t,
        _ ask: @escaping @Sendable (String) async -> FixtureProcess.Answer
    ) async throws {
        let isOver = Locked(false)
        async let answers = Task.detached {
            var answers: [FixtureProcess.Answer] = []
            repeat { answers.append(await ask("pid")) } while !isOver.withLock { $0 }
            return answers
        }.value
        kill(first, SIGKILL)
        let second = try await fixture.serving().pid
        #expect(second != first)
        #expect(await ask("pid") == .line("\(second)"))
        kill(fixture.pid, SIGUSR2)
        try await fixture.lines(containing: "serving ", "guard: \(second) has stopped")
        guard case .line(let third) = await ask("pid") else { return #expect(Bool(false), "refused") }
        #expect(![first, second].map(String.init).contains(third))
        isOver.withLock { $0 = true }
        let refused = await answers.filter { if case .refused = $0 { true } else { false } }
        #expect(refused == [])
    }

    private func listener(port: UInt16) throws -> CInt {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        return try listener(address, AF_INET)
    }

    private func listener(path: String) throws -> CInt { try listener(FixtureProcess.unixAddress(path), AF_UNIX) }

    private func listener<Address>(_ address: Address, _ family: CInt) throws -> CInt {
        let descriptor = socket(family, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        let status = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<Address>.size))
            }
        }
        try #require(
            descriptor >= 0 && status == 0 && listen(descriptor, 100) == 0,
            "\(String(cString: strerror(errno)))"
        )
        return descriptor
    }
}

/// Of a TCP socket; 0 of any other.
private func portNumber(of descriptor: CInt) -> UInt16 {
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    _ = withUnsafeMutableBytes(of: &address) {
        getsockname(descriptor, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length)
    }
    return address.sin_family == AF_INET ? UInt16(bigEndian: address.sin_port) : 0
}
