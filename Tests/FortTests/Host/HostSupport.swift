// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc

@testable import Fort

/// Writes a line to the standard output at once: `_exit` would not.
func report(_ line: String) {
    let line = line + "\n"
    _ = line.withCString { write(STDOUT_FILENO, $0, strlen($0)) }
}

/// Sends a signal to the thread that takes the program's signals: the other threads of a test's process did not inherit its mask.
func signalThisProgram(_ signal: Int32) {
    // Not in the headers that Swift sees, because they need `_GNU_SOURCE`.
    guard let symbol = dlsym(nil, "tgkill") else { return report("no tgkill") }
    // safety: `int tgkill(pid_t, pid_t, int)`, since glibc 2.30.
    let tgkill = unsafeBitCast(symbol, to: (@convention(c) (pid_t, pid_t, Int32) -> Int32).self)
    // Ends: the program makes that thread right after it started the bodies.
    while true {
        if let thread = thread(named: "bastion-signals") {
            if tgkill(getpid(), thread, signal) != 0 { report("tgkill failed with \(errno)") }
            return
        }
        sched_yield()
    }
}

private func thread(named name: String) -> pid_t? {
    guard let directory = opendir("/proc/self/task") else { return nil }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
        let text = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        guard let id = pid_t(text) else { continue }
        if FileTree().text(at: "/proc/self/task/\(id)/comm") == name + "\n" { return id }
    }
    return nil
}

/// What a service manager is for a program that it has started: a datagram socket.
final class PretendedManager: Sendable {
    let name: String
    private let descriptor: CInt

    /// - Parameter name: An absolute path, or `@` and a name.
    init(_ name: String) {
        self.name = name
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name.utf8) }
        if name.hasPrefix("@") { address.sun_path.0 = 0 }
        let length = socklen_t(2 + name.utf8.count + (name.hasPrefix("@") ? 0 : 1))
        let status = withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        precondition(status == 0, "cannot bind to \(name): \(errno)")
    }

    /// One in the abstract name space that nobody else has, and that this process is told of.
    convenience init(toldAs variables: [String: String] = [:]) {
        self.init("@bastion-test-\(getpid())-\(UInt64.random(in: 0 ... .max))")
        setenv("NOTIFY_SOCKET", name, 1)
        for (variable, value) in variables { setenv(variable, value, 1) }
    }

    deinit { close(descriptor) }

    /// Waits for the next message; its lines with blanks between them.
    func blockingReceive() -> String { receive(0) ?? "nothing" }
    /// The next message if it is there.
    func received() -> String? { receive(Int32(MSG_DONTWAIT)) }

    /// As `blockingReceive`, on a thread of its own.
    func next() async -> String {
        await suspended { continuation in
            onThread { [self] in continuation.resume(returning: blockingReceive()) }
        }
    }

    private func receive(_ flags: Int32) -> String? {
        var bytes = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(descriptor, &bytes, bytes.count, flags)
            // The stall watch interrupts.
            if count < 0, errno == EINTR { continue }
            if count < 0 { return nil }
            let text = String(decoding: bytes.prefix(count), as: UTF8.self)
            return text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: " ")
        }
    }
}

/// A directory that is gone with the test, and stands for `/`.
final class PretendedTree: Sendable {
    let root: String
    private let made = Locked<[String]>([])

    init() {
        var template = Array("\(getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp")/bastion-XXXXXX".utf8CString)
        precondition(mkdtemp(&template) != nil, "no temporary directory: \(errno)")
        root = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        // Files before the directories that they are in.
        for path in made.withLock({ $0.reversed() }) { remove(path) }
        remove(root)
    }

    var files: MemoryFiles { MemoryFiles(FileTree(root: root)) }

    /// Writes a file over what it had, without a moment at which it is empty.
    func write(_ text: String, to path: String) {
        var folder = root
        for name in path.split(separator: "/").dropLast() {
            folder += "/\(name)"
            if mkdir(folder, 0o700) == 0 { made.withLock { [folder] in $0.append(folder) } }
        }
        let file = root + path
        if access(file, F_OK) != 0 { made.withLock { $0.append(file) } }
        let descriptor = open(file, O_WRONLY | O_CREAT, 0o600)
        precondition(descriptor >= 0, "cannot write \(path): \(errno)")
        _ = text.withCString { Glibc.write(descriptor, $0, strlen($0)) }
        ftruncate(descriptor, text.utf8.count)
        close(descriptor)
    }

    /// A control group of version 2 in one that is around it.
    func makeGroups() {
        write("0::/outer/inner\n", to: "/proc/self/cgroup")
        write("30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", to: "/proc/self/mountinfo")
        for group in ["/sys/fs/cgroup/outer", "/sys/fs/cgroup/outer/inner"] {
            write("1000000\n", to: "\(group)/memory.current")
            write("anon 5\ninactive_file 0\nactive_file 7\n", to: "\(group)/memory.stat")
            write("max\n", to: "\(group)/memory.max")
            write("max\n", to: "\(group)/memory.high")
            write("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n", to: "\(group)/memory.events")
            write("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n", to: "\(group)/memory.events.local")
        }
    }
}
