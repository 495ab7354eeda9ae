// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Fort
import Glibc
import LightProc
import Supervision

/// A program behind the boundary, for its tests: serves a line protocol over TCP, a connection for each request.
///
/// `pid`, `trap`, `segv`, `exit N`, `exhaust`, `stick`, `wait`, ... (see `answer`). The answer is a line; a request that ends its process, or
/// the program, is answered by the end of the connection.
struct Fixture: FortProgram {
    static var boundary: Boundary { getenv("FIXTURE_UNGUARDED") == nil ? .guarded : .inProcess }
    static var intensity: RestartIntensity {
        getenv("FIXTURE_RESTARTS").flatMap { Int(String(cString: $0)) }.map {
            RestartIntensity($0, within: .seconds(60))
        }
            ?? .unlimited
    }
    static var executable: String? { getenv("FIXTURE_EXECUTABLE").map { String(cString: $0) } }
    static var signalsReady: Bool { true }
    static var stopDeadline: Duration { .seconds(5) }

    func run(in context: Context) async throws {
        if let code = getenv("FIXTURE_EXIT").flatMap({ Int32(String(cString: $0)) }) { exit(code) }
        let listener: CInt
        let number = getenv("FIXTURE_PORT").flatMap { Int(String(cString: $0)) } ?? 0
        do { listener = try Fort.listener(host: "127.0.0.1", port: number) } catch {
            fail("\(error)", error.exitCode)
        }
        let requests = try context.children(
            "request",
            of: CInt.self,
            redundancy: 4,
            restart: .permanent,
            intensity: .unlimited
        ) { context in
            // One connection for each incarnation: it owns it, whatever becomes of it.
            guard let connection = try? await context.receive(CInt.self) else { return }
            context.onExit { _ in close(connection) }
            await answer(connection)
        }
        body.withLock { $0 = LightProc.current }
        let acceptor = Acceptor(listener) { requests.next.tell($0) }
        context.onExit { _ in acceptor.stop() }
        context.ready()
        say("serving \(port(of: listener)) \(getpid())")
        await context.untilStopped()
        isStopping.withLock { $0 = true }
        acceptor.stop()
        say("stopped \(getpid())")
    }
}

/// Accepts connections on a thread of its own until it is told to stop.
final class Acceptor: Sendable {
    private let wake: [CInt]
    private let thread = Locked<PlainThread?>(nil)

    init(_ listener: CInt, _ handle: @escaping @Sendable (CInt) -> Void) {
        var ends: [CInt] = [0, 0]
        precondition(pipe(&ends) == 0, "pipe failed with errno \(errno)")
        wake = ends
        let end = ends[0]
        let thread = PlainThread(name: "acceptor") {
            while true {
                var waited = [
                    pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: end, events: Int16(POLLIN), revents: 0),
                ]
                if poll(&waited, 2, -1) < 0 { continue }
                if waited[1].revents != 0 { break }
                let connection = accept(listener, nil, nil)
                if connection >= 0 { handle(connection) }
            }
            close(listener)
        }
        self.thread.withLock { $0 = thread }
    }

    /// Returns when the thread has ended.
    func stop() {
        _ = write(wake[1], "x", 1)
        thread.withLock { $0.take() }?.join()
    }
}

func answer(_ connection: CInt) async {
    let words = readLine(connection).split(separator: " ")
    let number = words.count > 1 ? Int(words[1]) ?? 0 : 0
    switch words.first {
    case "pid": reply("\(getpid())")
    case "trap": reply("\([1][opaque(9)])")
    case "segv": UnsafeMutablePointer<Int>(bitPattern: 16)?.pointee = opaque(1)
    case "abort": abort()
    case "exit": exit(Int32(number))
    case "exhaust":
        Containment.leakBudget = 1
        reply("\([1][opaque(9)])")
    case "body": body.withLock { $0 }?.kill()
    case "stick":
        say("sticking")
        while true { pause() }
    case "wait":
        // Until the program is told to stop, and after that.
        say("waiting")
        while !isStopping.withLock({ $0 }) { usleep(1000) }
        reply("waited \(getpid())")
    case "predecessor": reply(Fort.predecessor.map { "\($0.pid) \($0.summary)" } ?? "none")
    case "main": reply(await MainActor.run { "main" })
    case "descriptors": reply("\(openDescriptors())")
    default: reply("what?")
    }
    func reply(_ text: String) {
        let text = text + "\n"
        _ = text.withCString { send(connection, $0, strlen($0), CInt(MSG_NOSIGNAL)) }
    }
}

let isStopping = Locked(false)
let body = Locked<LightProc?>(nil)

@inline(never) func opaque<T>(_ value: T) -> T { value }

func readLine(_ connection: CInt) -> String {
    var bytes: [UInt8] = []
    var byte: UInt8 = 0
    while bytes.count < 1000, read(connection, &byte, 1) == 1, byte != 10 { bytes.append(byte) }
    return String(decoding: bytes, as: UTF8.self)
}

func openDescriptors() -> Int {
    guard let directory = opendir("/proc/self/fd") else { return -1 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    return count
}

func port(of listener: CInt) -> UInt16 {
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    _ = withUnsafeMutableBytes(of: &address) {
        getsockname(listener, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length)
    }
    return UInt16(bigEndian: address.sin_port)
}

func fail(_ message: String, _ code: ExitCode) -> Never {
    let line = "fort-fixture: \(message)\n"
    _ = line.withCString { write(STDERR_FILENO, $0, strlen($0)) }
    exit(code.rawValue)
}

func say(_ line: String) {
    let line = line + "\n"
    _ = line.withCString { write(STDOUT_FILENO, $0, strlen($0)) }
}

Fixture.main()
