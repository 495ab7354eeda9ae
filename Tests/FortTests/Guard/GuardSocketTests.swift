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
