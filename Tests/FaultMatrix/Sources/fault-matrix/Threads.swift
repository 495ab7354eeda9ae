// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// The threads of this program that are Bastion's, by name.
enum Threads {
    static func names() -> [String] {
        var names: [String] = []
        forEach { _, name in if name.hasPrefix("bastion-") { names.append(name) } }
        return names.sorted()
    }

    /// Without those that come and go on demand.
    static func lasting() -> [String] {
        names().filter { !$0.hasPrefix("bastion-block") && $0 != "bastion-scout" && $0 != "bastion-reports" }
    }

    /// Waits until the lasting threads are so many: those that trapped end after they were replaced. Nil after ten
    /// seconds, far more than that takes.
    static func blockingWait(forLasting count: Int) -> [String]? {
        let end = seconds() + 10
        while true {
            let names = lasting()
            if names.count == count { return names }
            if seconds() > end { return nil }
            sched_yield()
        }
    }

    /// Nanoseconds that threads of a name have run on a processor.
    static func processorTime(of wanted: String) -> Int {
        var time = 0
        forEach { path, name in
            if name == wanted { time += Int(line(of: path + "/schedstat").prefix { $0 != " " }) ?? 0 }
        }
        return time
    }

    private static func forEach(_ body: (_ path: String, _ name: String) -> Void) {
        guard let stream = opendir("/proc/self/task") else { return }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            // safety: the entry is valid until the next readdir; its name is zero-terminated.
            let thread = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard thread.first != "." else { continue }
            let path = "/proc/self/task/" + thread
            body(path, line(of: path + "/comm"))
        }
    }
}

/// The first line of a file; empty if there is none.
func line(of path: String) -> String {
    guard let file = fopen(path, "r") else { return "" }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard fgets(&line, 256, file) != nil else { return "" }
    // safety: fgets terminated the line within the buffer.
    return line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }.filter { $0 != "\n" }
}

/// Writes a line at once, so that it is there also if the program is about to end.
func say(_ line: String) {
    _ = (line + "\n").withCString { write(STDOUT_FILENO, $0, strlen($0)) }
}

/// Seconds of the monotonic clock.
func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Resident bytes of the program.
func residentBytes() -> Int {
    let fields = line(of: "/proc/self/statm").split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
}

/// Ends the program when what is going on takes too long, and says what that is.
enum Watchdog {
    private nonisolated(unsafe) static let name = UnsafeMutablePointer<CChar>.allocate(capacity: 256)

    static func start(_ what: String, seconds: UInt32) {
        _ = strncpy(name, "FAILED \(what): hangs\n", 255)
        name[255] = 0
        signal(SIGALRM) { _ in
            _ = write(STDOUT_FILENO, Watchdog.name, strlen(Watchdog.name))
            _exit(3)
        }
        alarm(seconds)
    }

    static func stop() { alarm(0) }
}
