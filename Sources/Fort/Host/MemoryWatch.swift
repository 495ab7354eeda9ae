// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Executor
import Glibc
import LightProc

/// Watches how short the program is of memory, on a thread of its own: work that waits for the workers would come too late.
///
/// It reads the files when the kernel says that something has happened (`memory.events` by inotify, PSI by a trigger), and once a second as long as there is
/// a limit to come near to, or the kernel has refused the trigger. Nothing of the program runs on the thread.
final class MemoryWatch: Sendable {
    private let files: MemoryFiles
    private let publish: @Sendable (MemoryPressure) -> Void
    /// What can be read ends the thread.
    private let ends: (watch: CInt, stop: CInt)
    private let thread = Locked<PlainThread?>(nil)

    /// A stall of so much in a window of so much, in microseconds: without privileges windows must be whole multiples of two seconds.
    private static let triggers: [(stall: UInt64, window: UInt64)] = [(100_000, 1_000_000), (200_000, 2_000_000)]
    /// At most that often the files are read, however much happens.
    private static let shortestPause: CInt = 50
    private static let pause: CInt = 1000

    /// Nil where nothing is told of the program's memory.
    ///
    /// - Parameter publish: Called on the thread with what each look found.
    init?(_ files: MemoryFiles, _ publish: @escaping @Sendable (MemoryPressure) -> Void) {
        if files.groups.isEmpty, files.pressure == nil { return nil }
        var pair: [CInt] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &pair) == 0 else {
            return nil
        }
        ends = (pair[0], pair[1])
        self.files = files
        self.publish = publish
    }

    deinit {
        close(ends.watch)
        close(ends.stop)
    }

    /// False if there can be no thread.
    @discardableResult
    func start() -> Bool {
        let started = PlainThread(ifPossible: "bastion-memory") { [self] in watch() }
        let isRunning = started != nil
        thread.withLock { $0 = started }
        return isRunning
    }

    /// Ends the thread and waits for it.
    func stop() {
        var byte: UInt8 = 0
        _ = write(ends.stop, &byte, 1)
        thread.withLock { thread in
            defer { thread = nil }
            return thread
        }?.join()
    }

    private func watch() {
        let changes = watchEvents()
        var trigger = openTrigger()
        defer { for descriptor in [changes, trigger?.descriptor ?? -1] where descriptor >= 0 { close(descriptor) } }
        // A limit that is set later is seen when something happens.
        let hasLimits = files.hasLimits()
        var gauge = PressureGauge()
        var triggerShare: Double?
        while true {
            let pressure = gauge.read(files.read(), at: MonotonicClock.now, triggerShare: triggerShare)
            publish(pressure)
            let mustLook = hasLimits || (files.pressure != nil && trigger == nil) || pressure.level > .none
            let timeout = mustLook || triggerShare != nil ? Self.pause : -1
            guard let seen = wait(changes, trigger?.descriptor ?? -1, timeout) else { return }
            drain(changes)
            triggerShare = seen & POLLPRI != 0 ? trigger?.share : nil
            if seen & POLLERR != 0, let old = trigger {
                close(old.descriptor)
                trigger = nil
            }
        }
    }

    /// Waits until a file changes or the trigger says something; negative descriptors are none. Returns what the trigger said: POLLPRI, or
    /// POLLERR if it never will again. Nil: the watch is to end.
    private func wait(_ changes: CInt, _ trigger: CInt, _ milliseconds: CInt) -> CInt? {
        // Not more often than this, whatever happens.
        var pause = pollfd(fd: ends.watch, events: Int16(POLLIN), revents: 0)
        if poll(&pause, 1, Self.shortestPause) > 0 { return nil }
        var entries = [
            pollfd(fd: ends.watch, events: Int16(POLLIN), revents: 0),
            pollfd(fd: changes, events: Int16(POLLIN), revents: 0),
            pollfd(fd: trigger, events: Int16(POLLPRI), revents: 0),
        ]
        // An error (EINTR, ENOMEM) is a look too many.
        if poll(&entries, nfds_t(entries.count), milliseconds) <= 0 { return 0 }
        return entries[0].revents != 0 ? nil : CInt(entries[2].revents)
    }

    private func watchEvents() -> CInt {
        if files.eventFiles.isEmpty { return -1 }
        let watch = fort_makeFileWatch()
        if watch >= 0 { for file in files.eventFiles { _ = fort_watchFile(watch, file) } }
        return watch
    }

    private func drain(_ changes: CInt) {
        if changes < 0 { return }
        withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
            // Ends: the kernel keeps one event for changes that nobody has read of.
            while read(changes, buffer.baseAddress, buffer.count) > 0 {}
        }
    }

    private func openTrigger() -> (descriptor: CInt, share: Double)? {
        guard let pressure = files.pressure else { return nil }
        for trigger in Self.triggers {
            let descriptor = fort_openPressureTrigger(files.path(of: pressure), trigger.stall, trigger.window)
            if descriptor >= 0 { return (descriptor, Double(trigger.stall) / Double(trigger.window)) }
        }
        return nil
    }
}
