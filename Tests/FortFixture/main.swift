// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Fort
import Glibc
import LightProc
import Supervision
import TestSupport

/// A program behind the boundary, for its tests: serves a line protocol over TCP, a connection for each request.
///
/// `pid`, `trap`, `segv`, `exit N`, `exhaust`, `stick`, `wait`, ... (see `answer`). The answer is a line; a request that ends its process, or
/// the program, is answered by the end of the connection. Where it listens `FIXTURE_PORT`, `FIXTURE_UNIX` or `FIXTURE_NAMED` says.
struct Fixture: FortProgram {
    static var boundary: Boundary { getenv("FIXTURE_UNGUARDED") == nil ? .guarded : .inProcess }
    static var intensity: RestartIntensity {
        getenv("FIXTURE_RESTARTS").flatMap { Int(String(cString: $0)) }.map {
            RestartIntensity($0, within: .seconds(60))
        }
            ?? .unlimited
    }
    static var executable: String? { getenv("FIXTURE_EXECUTABLE").map { String(cString: $0) } }
    static var signalsReady: Bool { getenv("FIXTURE_CARELESS") == nil }
    static var stopDeadline: Duration { .seconds(5) }
    /// Longer than a machine with much else to do stands still.
    static var hangTime: Duration? { .seconds(60) }

    init() {
        // In the guard's child, before anything else runs.
        guard let path = getenv("FIXTURE_STUCK"), access(path, F_OK) == 0 else { return }
        say("stuck at the start")
        while true { pause() }
    }

    func reload() async { say("read anew") }

    func run(in context: Context) async throws {
        if let code = getenv("FIXTURE_EXIT").flatMap({ Int32(String(cString: $0)) }) { exit(code) }
        // Another body, which has nothing to do but to be ready when it is told.
        if context.name != "main-0" {
            await second.wait()
            context.ready()
            say("ready too \(getpid())")
            return await context.untilStopped()
        }
        let listener = try makeListener()
        let events = Fort.events()
        let isTold = Task.detached {
            for await event in events {
                if event == .replaced { say("replaced \(getpid())") }
                if case .stopping = event { return }
            }
        }
        let requests = try context.children(
            "request",
            of: CInt.self,
            redundancy: 4,
            restart: .permanent,
            intensity: .unlimited,
            // What is stuck holds up a stop until that is forced, or over.
            shutdownTime: .infinity
        ) { context in
            // One connection for each incarnation: it owns it, whatever becomes of it.
            guard let connection = try? await context.receive(CInt.self) else { return }
            context.onExit { _ in close(connection) }
            await answer(connection)
        }
        body.withLock { $0 = LightProc.current }
        if let more = getenv("FIXTURE_MORE"), access(more, F_OK) == 0 { askForMore() }
        let acceptor = Acceptor(listener) { requests.next.tell($0) }
        context.onExit { _ in acceptor.stop() }
        context.ready()
        say("serving \(port(of: listener)) \(getpid())")
        await context.untilStopped()
        // What it says comes before the end. Of a body alone there is nothing to hear.
        if !isReturning.withLock({ $0 }) { await isTold.value }
        isStopping.open()
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
    case "abort":
        // Of a thread that is no worker: there it is contained.
        PlainThread(name: "aborting") { abort() }.join()
    case "corrupt":
        // Nothing that the allocator has given out.
        let block = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 16)
        free(block + opaque(16))
    case "exit": exit(Int32(number))
    case "devour":
        while true { memset(UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096), 1, 1 << 20) }
    case "return":
        isReturning.withLock { $0 = true }
        body.withLock { $0 }?.stop()
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
        isStopping.blockingWait()
        reply("waited \(getpid())")
    case "predecessor": reply(Fort.predecessor.map { "\($0.pid) \($0.summary)" } ?? "none")
    case "second":
        second.open()
        reply("told")
    case "deaf":
        // Nobody reads what it says from now on.
        var ends: [CInt] = [0, 0]
        precondition(pipe(&ends) == 0, "pipe failed with errno \(errno)")
        close(ends[0])
        dup2(ends[1], STDERR_FILENO)
        close(ends[1])
        reply("deaf")
    case "main": reply(await MainActor.run { "main" })
    case "more":
        askForMore()
        reply("asked")
    case "less":
        Fort.giveBackListener(unixPath: moreSocket())
        reply("given back")
    case "descriptors": reply("\(openDescriptors())")
    case "executable": reply(executable())
    case "orphan": reply("\(makeOrphan())")
    case "exists": reply(kill(pid_t(number), 0) == 0 ? "yes" : "no")
    default: reply("what?")
    }
    func reply(_ text: String) {
        let text = text + "\n"
        _ = text.withCString { send(connection, $0, strlen($0), CInt(MSG_NOSIGNAL)) }
    }
}

let isStopping = PollGate()
/// Bodies beside the first may be ready.
let second = SleepGate()
let body = Locked<LightProc?>(nil)
/// The body alone is told to stop.
let isReturning = Locked(false)

func makeListener() throws(ListenerError) -> CInt {
    if let path = getenv("FIXTURE_UNIX") { return try Fort.listener(unixPath: String(cString: path)) }
    if let name = getenv("FIXTURE_NAMED") { return try Fort.listener(named: String(cString: name)) }
    let port = getenv("FIXTURE_PORT").flatMap { Int(String(cString: $0)) } ?? 0
    return try Fort.listener(host: "127.0.0.1", port: port)
}

func moreSocket() -> String { (getenv("FIXTURE_MORE").map { String(cString: $0) } ?? "") + ".socket" }

/// Asks for another socket, at which it never accepts anything.
func askForMore() {
    do throws(ListenerError) { close(try Fort.listener(unixPath: moreSocket())) } catch {
        fail("\(error)", error.exitCode)
    }
}

/// The file that this process runs.
func executable() -> String {
    guard let path = realpath("/proc/self/exe", nil) else { return "unknown" }
    defer { free(path) }
    return String(cString: path)
}

/// Has a shell start another one and end; that one ends when it is nobody's child any more. Its number.
func makeOrphan() -> pid_t {
    var (input, output): ([CInt], [CInt]) = ([0, 0], [0, 0])
    precondition(pipe(&input) == 0 && pipe(&output) == 0, "pipe failed with errno \(errno)")
    for end in input + output { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, input[0], 0)
    posix_spawn_file_actions_adddup2(&actions, output[1], 1)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // In the background standard input is nothing, if nobody says otherwise.
    let words = ["/bin/sh", "-c", "exec 5<&0; { read word; } <&5 >&2 & echo $!"]
    var arguments = words.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var shell: pid_t = 0
    let error = posix_spawn(&shell, "/bin/sh", &actions, nil, &arguments, environ)
    precondition(error == 0, "no shell: \(error)")
    close(input[0])
    close(output[1])
    let orphan = pid_t(readLine(output[0])) ?? 0
    close(output[0])
    var status: Int32 = 0
    while waitpid(shell, &status, 0) < 0, errno == EINTR {}
    // Its parent is dead: it may end.
    close(input[1])
    return orphan
}

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

/// 0 if it is no TCP port.
func port(of listener: CInt) -> UInt16 {
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    _ = withUnsafeMutableBytes(of: &address) {
        getsockname(listener, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length)
    }
    return address.sin_family == AF_INET ? UInt16(bigEndian: address.sin_port) : 0
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

/// Ends this process when the test program is dead, which holds the other end of a socket that it was given. Its child has no need of that: it
/// dies with its guard.
func dieWithTheTests() {
    guard let descriptor = getenv("FIXTURE_LIFE").flatMap({ CInt(String(cString: $0)) }) else { return }
    unsetenv("FIXTURE_LIFE")
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    // No signal is the thread's business: the guard reads them, or the program's own thread takes them.
    var (all, former) = (sigset_t(), sigset_t())
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &former)
    PlainThread(name: "life") {
        var byte: UInt8 = 0
        while read(descriptor, &byte, 1) < 0, errno == EINTR {}
        _exit(137)
    }.detach()
    pthread_sigmask(SIG_SETMASK, &former, nil)
}

dieWithTheTests()
Fixture.main()
