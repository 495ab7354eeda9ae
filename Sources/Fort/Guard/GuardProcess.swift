// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Executor
import Glibc

/// The guard's only thread: waits for signals, ends of children and their messages, and does what `GuardMachine` says.
///
/// It allocates when a child is started or a line is written, and the list of what it waits for, nothing else.
final class GuardProcess {
    /// What the guard has of a child.
    private struct Link {
        let pid: Int32
        /// The guard's end of the socket; -1 when the other one is closed.
        var control: CInt
        let record: ProcessRecord
        let recordDescriptor: CInt
        var watch = BeatWatch()
    }

    private let options: FortOptions
    private var machine: GuardMachine
    private let executable: String
    private let signals: CInt
    private var links: [Link] = []
    private var listeners = ListenerTable()
    /// Of the program that has died and is to be started again.
    private var predecessor: GuardOrder.Predecessor?
    private var keepAlive = KeepAlive()
    private var hasToldStopping = false
    /// When the service manager may be told next that all is well.
    private var nextSignOfLife = Duration.zero
    /// When it is asked next for more time, while the program stops.
    private var nextExtension = Duration.zero
    /// Processes that write reports, and when they have had time enough.
    private var reporters: [(pid: Int32, limit: Duration)] = []
    private var outOfMemoryKills = OutOfMemoryKills()
    private var restarts = 0

    init(_ options: FortOptions, isInit: Bool) {
        self.options = options
        executable = options.executable ?? Self.ownExecutable
        machine = GuardMachine(
            .init(
                intensity: options.intensity,
                backoff: options.backoff,
                // A little longer: the program knows best what to give up.
                stopTime: options.stopDeadline + .seconds(2),
                startTime: isInit ? nil : options.startDeadline,
                handoverTime: options.startDeadline ?? .seconds(60),
                isInit: isInit
            )
        )
        listeners.takeActivated()
        signals = fort_takeSignals()
        if signals < 0 { Fort.fail("guard: cannot take signals: \(ErrorNumber(errno))", .operatingSystem) }
    }

    /// As it was called, so that what is there later is what is started later.
    private static var ownExecutable: String {
        let called = Fort.programName
        if called.contains("/"), access(called, X_OK) == 0 { return called }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX) + 1) { path in
            let count = readlink("/proc/self/exe", path.baseAddress!, Int(PATH_MAX))
            guard count > 0 else { return called }
            path[count] = 0
            return String(cString: path.baseAddress!)
        }
    }

    // MARK: The loop

    func run() -> Never {
        perform(machine.begin())
        while true {
            wait()
            readMessages()
            readSignals()
            watch()
            perform(machine.timePassed(MonotonicClock.now))
        }
    }

    /// Until there is something to do.
    private func wait() {
        let now = MonotonicClock.now
        var time = machine.nextTime.map { max($0 - now, .zero) }
        if links.contains(where: { $0.record.hangTime != nil }) { time = min(time ?? Self.watchPause, Self.watchPause) }
        if machine.isEnding, ServiceManager.socket != nil {
            time = min(time ?? .seconds(60), max(nextExtension - now, .zero))
        }
        if let limit = reporters.map(\.limit).min() { time = min(time ?? .seconds(60), max(limit - now, .zero)) }
        if ServiceManager.watchdogTime != nil { time = min(time ?? .seconds(60), max(nextSignOfLife - now, .zero)) }
        // Rounded up: woken a moment too early it would turn round in circles.
        let milliseconds = time.map { CInt(clamping: $0.inNanoseconds / 1_000_000 + 1) } ?? -1
        let descriptors = [signals] + links.map(\.control)
        var ready = [Bool](repeating: false, count: descriptors.count)
        _ = fort_await(descriptors, CInt(descriptors.count), milliseconds, &ready)
    }

    /// So often the guard looks at the records.
    private static let watchPause = Duration.milliseconds(250)

    /// So many reports are written at a time.
    private static let reporterLimit = 4
    /// So long one may take: a directory may be somewhere that does not answer.
    private static let reporterTime = Duration.seconds(30)

    private func readSignals() {
        var signal: CInt = 0
        var isFromTerminal = false
        while fort_nextSignal(signals, &signal, &isFromTerminal) {
            if signal == SIGCHLD { continue }
            // What a child has said comes before what somebody wants who has seen that.
            readMessages()
            if signal == SIGINT || signal == SIGTERM { tellStopping() }
            perform(machine.signaled(signal, reachedAll: isFromTerminal, at: MonotonicClock.now))
        }
        // Whatever was signalled: several ends are one signal.
        var status: CInt = 0
        while true {
            let pid = fort_collect(&status)
            if pid == 0 { return }
            ended(pid, status)
        }
    }

    private func ended(_ pid: Int32, _ status: CInt) {
        if let index = reporters.firstIndex(where: { $0.pid == pid }) {
            reporters.remove(at: index)
            return
        }
        // An orphan that the first process of a container has got: collected, and that is all.
        guard let index = links.firstIndex(where: { $0.pid == pid }) else { return }
        // What it had said before it died.
        if links[index].control >= 0 { readMessages(of: index) }
        let link = links.remove(at: index)
        if link.control >= 0 { close(link.control) }
        listeners.ended(pid)
        var cause = ChildEnd(waitStatus: status)
        if cause == .signal(SIGKILL), outOfMemoryKills.haveGrown() { cause = .outOfMemory }
        let now = MonotonicClock.now
        // Of the others nobody takes the place.
        let isProgram = machine.current?.pid == pid
        let actions = machine.ended(pid, cause, at: now)
        if machine.isEnding { tellStopping() }
        var verdict: ChildEnd?
        for case .report(pid, let cause) in actions { verdict = cause }
        if let verdict {
            let dead = GuardOrder.Predecessor(
                record: link.recordDescriptor,
                status: status,
                cause: verdict.deathCause
            )
            report(link.record, dead)
            if isProgram { forget(replacing: dead) } else { close(link.recordDescriptor) }
        } else {
            close(link.recordDescriptor)
        }
        link.record.unmap()
        perform(actions)
    }

    /// Forgets the predecessor, or knows another one.
    private func forget(replacing next: GuardOrder.Predecessor? = nil) {
        if let predecessor { close(predecessor.record) }
        predecessor = next
    }

    private func readMessages() {
        for index in links.indices where links[index].control >= 0 { readMessages(of: index) }
    }

    private func readMessages(of index: Int) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: GuardMessage.byteLimit) { buffer in
            while true {
                var descriptor: CInt = -1
                let count = fort_receive(links[index].control, buffer.baseAddress, buffer.count, &descriptor, false)
                if descriptor >= 0 { close(descriptor) }
                if count < 0 { return }
                if count == 0 {
                    close(links[index].control)
                    links[index].control = -1
                    return
                }
                if let message = GuardMessage(buffer[..<count]) { handle(message, links[index]) }
            }
        }
    }

    private func handle(_ message: GuardMessage, _ link: Link) {
        switch message {
        case .stage(let number):
            guard let stage = ProgramState.Stage(rawValue: UInt32(number)) else { return }
            if stage == .ready { perform(machine.ready(link.pid, at: MonotonicClock.now)) }
            if stage == .stopping { machine.stopping(link.pid, at: MonotonicClock.now) }
            if machine.current?.pid == link.pid, stage != .stopping { ServiceManager.tell(stage, options) }
        case .replacement:
            perform(machine.replacementWanted(by: link.pid, at: MonotonicClock.now))
        case .listen(let request):
            var error: Int32 = 0
            var descriptor: CInt = -1
            switch listeners.descriptor(for: request, by: link.pid) {
            case .success(let kept): descriptor = kept
            case .failure(let number): error = number.rawValue
            }
            _ = fort_send(link.control, &error, MemoryLayout<Int32>.size, descriptor)
        case .giveBack(let name):
            listeners.giveBack(name, by: link.pid)
        case .settled:
            machine.settled(link.pid)
        case .lacksSomething:
            machine.lacksSomething(link.pid)
        }
    }

    /// Looks whether the children live, and tells the service manager.
    private func watch() {
        let now = MonotonicClock.now
        if let time = ServiceManager.watchdogTime, now >= nextSignOfLife {
            nextSignOfLife = now + time / 4
            let program = links.first { $0.pid == machine.current?.pid }.map { link in
                KeepAlive.Program(
                    pid: link.pid,
                    beats: link.record.beats,
                    isForeign: link.record.isForeign,
                    isLookedAfter: !machine.policy.isInit && link.record.hangTime != nil
                )
            }
            if keepAlive.isDue(program) { ServiceManager.tellAlive() }
        }
        if machine.isEnding, ServiceManager.socket != nil, now >= nextExtension {
            nextExtension = now + ServiceManager.stopRhythm
            ServiceManager.extendStop()
        }
        for index in reporters.indices where reporters[index].limit <= now {
            Fort.tell(
                "\(Fort.programName): guard: the report that process \(reporters[index].pid) writes takes too long: killing it"
            )
            kill(reporters[index].pid, SIGKILL)
            // Where the disk does not answer it takes longer to be gone.
            reporters[index].limit = now + Self.reporterTime
        }
        if machine.policy.isInit { return }
        for index in links.indices {
            let record = links[index].record
            if links[index].watch.look(beats: record.beats, hangTime: record.hangTime, at: now) {
                perform(machine.hung(links[index].pid, at: now))
            }
        }
    }

    /// The program ends for good, by itself or as it was told to. Once.
    private func tellStopping() {
        if hasToldStopping { return }
        hasToldStopping = true
        ServiceManager.tell(.stopping, options)
    }

    // MARK: Actions

    private func perform(_ actions: [GuardMachine.Action]) {
        for action in actions {
            switch action {
            case .start(let incarnation): start(incarnation)
            case .send(let signal, let pid): kill(pid, signal)
            // Signals that wait are limited.
            case .retire(let pid): if !fort_retire(pid) { kill(pid, SIGTERM) }
            case .report: break
            case .closeSockets(let pid): listeners.closeAll(notOf: pid)
            case .exit(let code): end(code)
            case .say(let line): say(line)
            }
        }
    }

    private func start(_ incarnation: Int) {
        var ends: [CInt] = [-1, -1]
        let memory = fort_makeMemory(ProcessRecord.room)
        guard memory >= 0, fort_makePair(&ends) == 0, let record = ProcessRecord.map(memory) else {
            let error = errno
            if memory >= 0 { close(memory) }
            for end in ends where end >= 0 { close(end) }
            return perform(machine.notStarted(error, at: MonotonicClock.now))
        }
        record.pointer.pointee.incarnation = UInt32(clamping: incarnation)
        let isAgain = machine.current == nil
        let predecessor = isAgain ? predecessor : exhausted
        let order = GuardOrder(
            parent: getpid(),
            control: ends[1],
            record: memory,
            isInit: machine.policy.isInit,
            watchdogTime: ServiceManager.watchdogTime,
            predecessor: predecessor
        )
        outOfMemoryKills.note()
        let pid = spawn(
            setting: [(GuardOrder.variable, order.text)],
            keeping: [ends[1], memory, predecessor?.record ?? -1]
        )
        let error = errno
        close(ends[1])
        if pid == 0 {
            close(ends[0])
            close(memory)
            record.unmap()
            return perform(machine.notStarted(error, at: MonotonicClock.now))
        }
        if incarnation > 1 { restarts += 1 }
        if isAgain { forget() }
        links.append(Link(pid: pid, control: ends[0], record: record, recordDescriptor: memory))
        perform(machine.started(pid, incarnation: incarnation, at: MonotonicClock.now))
    }

    /// The program that runs, if it is to be replaced as its leak budget is exhausted; else it has nothing to leave.
    private var exhausted: GuardOrder.Predecessor? {
        guard let current = machine.current, current.isExhausted else { return nil }
        return links.first { $0.pid == current.pid }.map {
            GuardOrder.Predecessor(record: $0.recordDescriptor, status: 0, cause: .leakBudget)
        }
    }

    /// Starts the executable with what it needs to know.
    private func spawn(setting variables: [(name: String, value: String)], keeping descriptors: [CInt]) -> Int32 {
        var environment: [UnsafeMutablePointer<CChar>?] = []
        var entry = environ
        while let variable = entry.pointee {
            // The guard alone speaks to the service manager.
            if !Self.isGuardsOwn(variable) { environment.append(strdup(variable)) }
            entry += 1
        }
        for variable in variables { environment.append(strdup("\(variable.name)=\(variable.value)")) }
        environment.append(nil)
        defer { for variable in environment { free(variable) } }
        return fort_start(executable, CommandLine.unsafeArgv, environment, descriptors, CInt(descriptors.count))
    }

    private static func isGuardsOwn(_ variable: UnsafePointer<CChar>) -> Bool {
        for name in [
            "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=",
        ]
        where strncmp(variable, name, name.utf8.count) == 0 {
            return true
        }
        return false
    }

    /// Has the executable write up a death, beside what else goes on; without a directory says in a line what is known.
    private func report(_ record: ProcessRecord, _ dead: GuardOrder.Predecessor) {
        guard let directory = options.reportDirectory else {
            if record.saysMore { Fort.tell(Reporter.summary(record, status: dead.status, cause: dead.cause)) }
            return
        }
        // As many as a storm needs; the others are told in the guard's line alone.
        if reporters.count >= Self.reporterLimit { return }
        let order = ReportOrder(
            record: dead.record,
            status: dead.status,
            cause: dead.cause,
            restarts: restarts,
            limits: options.reportLimits,
            parent: getpid(),
            directory: directory
        )
        let pid = spawn(
            setting: Reporter.environment(for: order).map { (name: $0.key, value: $0.value) },
            keeping: [dead.record]
        )
        if pid > 0 { reporters.append((pid, MonotonicClock.now + Self.reporterTime)) }
    }

    private func end(_ code: Int32) -> Never {
        tellStopping()
        // A report that is being written: it is the last of its kind.
        let limit = MonotonicClock.now + .seconds(10)
        while !reporters.isEmpty, MonotonicClock.now < limit {
            var ready = false
            withUnsafePointer(to: signals) { _ = fort_await($0, 1, 100, &ready) }
            var (signal, isFromTerminal, status): (CInt, Bool, CInt) = (0, false, 0)
            while fort_nextSignal(signals, &signal, &isFromTerminal) {}
            // Ends: each collects one.
            while case let pid = fort_collect(&status), pid != 0 { reporters.removeAll { $0.pid == pid } }
        }
        for pid in links.map(\.pid) + reporters.map(\.pid) { kill(pid, SIGKILL) }
        exit(code)
    }

    private func say(_ line: GuardMachine.Line) {
        Fort.tell("\(Fort.programName): guard: \(line.text(executable: executable))")
    }
}

extension ChildEnd {
    /// What `wait` says.
    init(waitStatus status: Int32) {
        self = WaitStatus.signal(status).map(ChildEnd.signal) ?? .exit(WaitStatus.exitCode(status) ?? 0)
    }
}

/// How often the kernel has killed for want of memory in this process's cgroup.
struct OutOfMemoryKills {
    private var known: Int?

    mutating func note() { known = Self.count }

    /// Since `note`.
    func haveGrown() -> Bool {
        guard let known, let now = Self.count else { return false }
        return now > known
    }

    private static var count: Int? {
        let tree = FileTree()
        guard let cgroup = tree.text(at: "/proc/self/cgroup"), let mounts = tree.text(at: "/proc/self/mountinfo") else {
            return nil
        }
        let own = CgroupHierarchy(cgroup: cgroup, mountinfo: mounts).directories.first { $0.version == .v2 }
        return own.flatMap { tree.text(at: "\($0.path)/memory.events") }.map { MemoryEventCounts($0).kills }
    }
}

extension GuardMachine.Line {
    /// What is said. What could not be started has no id: it is called by its file.
    func text(executable: String) -> String {
        func name(_ pid: Int32, _ cause: ChildEnd) -> String {
            if case .notStarted = cause { executable } else { "(\(pid))" }
        }
        return switch self {
        case .restarting(let pid, let cause, let uptime, let delay):
            "the program \(name(pid, cause)) \(cause) after \(uptime); "
                + "starting it again\(delay > .zero ? " in \(delay)" : "")"
        case .givingUp(let pid, let cause, let intensity):
            "the program \(name(pid, cause)) \(cause); giving up after more than "
                + "\(intensity.maximum ?? 0) restarts within \(intensity.period)"
        case .useless(.notStarted(let error)): "the program \(executable) \(ChildEnd.notStarted(error))"
        case .useless(let cause): "the program \(cause)"
        case .handingOver(let former, let next): "handing over from \(former) to \(next)"
        case .handedOver(let former, let next): "\(next) is ready, \(former) is to stop"
        case .handoverFailed(.notStarted(let error)):
            "the new program \(executable) \(ChildEnd.notStarted(error)): the old one goes on"
        case .handoverFailed(let cause): "the new program \(cause): the old one goes on"
        case .noHandover(let reason): "no handover: \(reason)"
        case .hung(let pid): "the program (\(pid)) gives no sign of life: killing it"
        case .forcing(let pid): "the program (\(pid)) takes too long: killing it"
        case .retired(let pid, let cause): cause == .exit(0) ? "\(pid) has stopped" : "\(pid), told to stop, \(cause)"
        }
    }
}

extension ChildEnd: CustomStringConvertible {
    /// As in `was killed by signal 9 (Killed)`.
    var description: String {
        switch self {
        case .exit(let code): "exited with \(code)"
        case .signal(let signal): "was ended by signal \(signal) (\(String(cString: strsignal(signal))))"
        case .hang: "hung and was killed"
        case .outOfMemory: "was killed as memory ran out"
        case .forced: "did not stop in time and was killed"
        case .notReady: "was not ready in time and was killed"
        case .notStarted(let error): "cannot be started: \(String(cString: strerror(error)))"
        }
    }
}
