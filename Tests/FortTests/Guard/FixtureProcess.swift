// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Testing

@testable import Fort

/// The program `fort-fixture`, started for one test. What it prints is read as it comes; whoever still runs at the end is killed.
final class FixtureProcess: Sendable {
    let pid: pid_t
    private let output: CInt
    private let lines: LineBuffer
    private let status = Locked<Int32?>(nil)

    /// Held by this program alone, and closed when it is dead, whatever it dies of: then those that it has started end.
    private static let life: [CInt] = {
        var ends: [CInt] = [0, 0]
        let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        precondition(socketpair(AF_UNIX, kind, 0, &ends) == 0, "no socket: \(errno)")
        return ends
    }()
    /// What the other end of that is for the program.
    private static let lifeNumber: CInt = 99

    /// Starts it, with these variables beside the test's own.
    ///
    /// - Parameters:
    ///   - path: What it is called by.
    ///   - launcher: A command that it is started by, whose last words are the program's.
    ///   - passed: Descriptors that it gets, from 3 on.
    init(
        _ variables: [String: String] = [:],
        path: String = FixtureProcess.path,
        launcher: [String] = [],
        passing passed: [CInt] = []
    ) throws {
        var ends: [CInt] = [0, 0]
        try #require(pipe(&ends) == 0)
        _ = fcntl(ends[0], F_SETFD, FD_CLOEXEC)
        _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        posix_spawn_file_actions_adddup2(&actions, ends[1], 2)
        posix_spawn_file_actions_adddup2(&actions, Self.life[1], Self.lifeNumber)
        // Away from the numbers that they are to have.
        let high = passed.map { fcntl($0, F_DUPFD_CLOEXEC, 100) }
        defer { for descriptor in high { close(descriptor) } }
        for (number, descriptor) in high.enumerated() {
            posix_spawn_file_actions_adddup2(&actions, descriptor, 3 + CInt(number))
        }
        defer { posix_spawn_file_actions_destroy(&actions) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var environment: [UnsafeMutablePointer<CChar>?] = []
        var entry = environ
        while let variable = entry.pointee {
            let text = String(cString: variable)
            // The backtracer takes seconds, and tells of deaths that are wanted.
            if !text.hasPrefix("BASTION_"), !text.hasPrefix("SWIFT_BACKTRACE=") { environment.append(strdup(text)) }
            entry += 1
        }
        for (name, value) in variables { environment.append(strdup("\(name)=\(value)")) }
        environment.append(strdup("SWIFT_BACKTRACE=enable=no"))
        environment.append(strdup("FIXTURE_LIFE=\(Self.lifeNumber)"))
        environment.append(nil)
        let words = launcher + [path]
        var arguments = words.map { strdup($0) } + [nil]
        defer { for string in arguments + environment { free(string) } }
        var child: pid_t = 0
        let error = posix_spawnp(&child, words[0], &actions, &attributes, &arguments, environment)
        close(ends[1])
        try #require(error == 0, "\(path): \(String(cString: strerror(error)))")
        pid = child
        output = ends[0]
        lines = LineBuffer()
        let (lines, output) = (lines, output)
        onThread { lines.fill(from: output) }
    }

    deinit {
        if status.withLock({ $0 }) == nil {
            kill(pid, SIGKILL)
            var ignored: Int32 = 0
            waitpid(pid, &ignored, 0)
        }
    }

    /// Beside the test bundle.
    static var path: String {
        let bundle = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4097) { buffer in
            let count = readlink("/proc/self/exe", buffer.baseAddress!, 4096)
            buffer[max(count, 0)] = 0
            return String(cString: buffer.baseAddress!)
        }
        let directory = bundle[..<(bundle.lastIndex(of: "/") ?? bundle.startIndex)]
        // A sanitizer's runner may be the toolchain's: then the arguments name the bundle.
        if access("\(directory)/fort-fixture", X_OK) == 0 { return "\(directory)/fort-fixture" }
        let named = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? ""
        return "\(named[..<(named.lastIndex(of: "/") ?? named.startIndex)])/fort-fixture"
    }

    /// The next line for which this is true; fails if the output ends before. Lines before it are skipped.
    func line(where isWanted: @Sendable (String) -> Bool) async throws -> String {
        var skipped: [String] = []
        while let line = await lines.next() {
            if isWanted(line) { return line }
            skipped.append(line)
        }
        Issue.record("the output has ended: \(skipped)")
        throw Ended()
    }

    func line(containing text: String) async throws -> String { try await line { $0.contains(text) } }

    /// As above, of lines of several processes, which may come in any order.
    @discardableResult
    func lines(containing texts: String...) async throws -> [String] {
        var wanted = texts
        var lines: [String] = []
        while !wanted.isEmpty {
            let found = try await line { [wanted] line in wanted.contains { line.contains($0) } }
            wanted.removeAll { found.contains($0) }
            lines.append(found)
        }
        return lines
    }

    /// Until it serves: its port and the process number of the program.
    func serving() async throws -> (port: UInt16, pid: pid_t) {
        let words = try await line { $0.hasPrefix("serving ") }.split(separator: " ")
        return (UInt16(words[1]) ?? 0, pid_t(words[2]) ?? 0)
    }

    /// What it has printed and nobody has read, when it has ended.
    func rest() async -> [String] {
        var rest: [String] = []
        while let line = await lines.next() { rest.append(line) }
        return rest
    }

    /// What it has ended with: its code, or 128 and the signal.
    func exitCode() async -> Int32 {
        await suspended { continuation in
            onThread { [self] in
                var status: Int32 = 0
                while waitpid(pid, &status, 0) < 0, errno == EINTR {}
                self.status.withLock { $0 = status }
                let signal = status & 0x7f
                continuation.resume(returning: signal == 0 ? (status >> 8) & 0xff : 128 + signal)
            }
        }
    }

    struct Ended: Error {}

    /// Asks the program something.
    static func ask(_ port: UInt16, _ question: String) -> Answer {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        return ask(address, AF_INET, question)
    }

    static func ask(unixPath path: String, _ question: String) -> Answer {
        ask(unixAddress(path), AF_UNIX, question)
    }

    static func unixAddress(_ path: String) -> sockaddr_un {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return address
    }

    private static func ask<Address>(_ address: Address, _ family: CInt, _ question: String) -> Answer {
        let connection = socket(family, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        defer { close(connection) }
        let status = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(connection, $0, socklen_t(MemoryLayout<Address>.size))
            }
        }
        if status != 0 { return .refused(errno) }
        let text = question + "\n"
        _ = text.withCString { send(connection, $0, strlen($0), CInt(MSG_NOSIGNAL)) }
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while read(connection, &byte, 1) == 1, byte != 10 { bytes.append(byte) }
        return bytes.isEmpty ? .closed : .line(String(decoding: bytes, as: UTF8.self))
    }

    /// What became of a question; `closed`: the connection has ended without an answer.
    enum Answer: Equatable {
        case line(String)
        case closed
        case refused(Int32)

        /// Of a question for the program's number.
        var pid: pid_t? { if case .line(let text) = self { pid_t(text) } else { nil } }
    }
}

/// On a thread of its own.
func ask(_ port: UInt16, _ question: String) async -> FixtureProcess.Answer {
    await suspended { continuation in
        onThread { continuation.resume(returning: FixtureProcess.ask(port, question)) }
    }
}

/// Likewise, of a Unix socket.
func ask(unixPath path: String, _ question: String) async -> FixtureProcess.Answer {
    await suspended { continuation in
        onThread { continuation.resume(returning: FixtureProcess.ask(unixPath: path, question)) }
    }
}

/// A directory that nobody else has; see `removeDirectory`.
func temporaryDirectory() throws -> String {
    let directory = "/tmp/bastion-fixture-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    try #require(mkdir(directory, 0o700) == 0)
    return directory
}

/// With the files in it.
func removeDirectory(_ path: String) {
    guard let directory = opendir(path) else { return }
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        unlink("\(path)/\(name)")
    }
    closedir(directory)
    rmdir(path)
}

/// The texts of reports of deaths, as JSON, oldest first.
func reports(in directory: String) -> [String] {
    ReportDirectory.names(in: directory).filter { $0.hasSuffix("-death.json") }.sorted()
        .map { FileTree().text(at: "\(directory)/\($0)") ?? "" }
}

/// An executable that is another file.
func copyFile(_ path: String, to copy: String) throws {
    let (source, target) = (
        open(path, O_RDONLY | O_CLOEXEC), open(copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o700)
    )
    defer { for descriptor in [source, target] where descriptor >= 0 { close(descriptor) } }
    try #require(source >= 0 && target >= 0)
    // Ends: each gets on, or there is no more.
    while true {
        let count = sendfile(target, source, nil, 1 << 30)
        if count < 0, errno == EINTR { continue }
        try #require(count >= 0, "\(String(cString: strerror(errno)))")
        if count == 0 { return }
    }
}

/// Runs something on a thread that nobody joins.
func onThread(_ body: @escaping @Sendable () -> Void) {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED))
    defer { pthread_attr_destroy(&attributes) }
    var thread = pthread_t()
    let status = pthread_create(
        &thread,
        &attributes,
        { argument in
            // safety: retained for this thread below.
            Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().body()
            return nil
        },
        Unmanaged.passRetained(Box(body)).toOpaque()
    )
    precondition(status == 0, "no thread: \(status)")
}

/// Lines of a descriptor, as they come.
private final class LineBuffer: Sendable {
    private struct State {
        var lines: [String] = []
        var hasEnded = false
        var waiting: UnsafeContinuation<String?, Never>?
    }
    private let state = Locked(State())

    func fill(from descriptor: CInt) {
        var bytes: [UInt8] = []
        withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
            while true {
                let count = read(descriptor, buffer.baseAddress!, buffer.count)
                if count < 0, errno == EINTR { continue }
                if count <= 0 { break }
                for byte in buffer[..<count] {
                    if byte == 10 {
                        put(String(decoding: bytes, as: UTF8.self))
                        bytes = []
                    } else {
                        bytes.append(byte)
                    }
                }
            }
        }
        close(descriptor)
        put(nil)
    }

    private func put(_ line: String?) {
        let waiting = state.withLock { state -> UnsafeContinuation<String?, Never>? in
            if let waiting = state.waiting.take() {
                if line == nil { state.hasEnded = true }
                return waiting
            }
            if let line { state.lines.append(line) } else { state.hasEnded = true }
            return nil
        }
        waiting?.resume(returning: line)
    }

    func next() async -> String? {
        await suspended { continuation in
            let known = state.withLock { state -> String?? in
                if !state.lines.isEmpty { return .some(state.lines.removeFirst()) }
                if state.hasEnded { return .some(nil) }
                state.waiting = continuation
                return nil
            }
            if let known { continuation.resume(returning: known) }
        }
    }
}
