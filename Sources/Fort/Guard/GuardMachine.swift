// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Supervision

/// Why a process is no more.
enum ChildEnd: Equatable, Sendable {
    /// It has called `exit`.
    case exit(Int32)
    /// A signal that it sent itself by a fault, or that somebody sent.
    case signal(Int32)
    /// Its executor gave no sign of life, so the guard killed it.
    case hang
    /// The kernel killed it as memory ran out.
    case outOfMemory
    /// It did not stop in the time it had, so the guard killed it; or it was told twice.
    case forced
    /// It was not ready in the time it had, so the guard killed it.
    case notReady
    /// It could not be started; an `errno`.
    case notStarted(Int32)

    /// Whether what is to be started is not there, or is nothing that can be; else the system lacks something.
    fileprivate static func isMissing(_ error: Int32) -> Bool { [ENOENT, ENOTDIR, EACCES, ENOEXEC].contains(error) }

    /// What a program ends with that is ended by this.
    var exitCode: Int32 {
        switch self {
        case .exit(let code): code
        case .signal(let signal): 128 + signal
        case .hang, .outOfMemory, .forced, .notReady: 128 + SIGKILL
        case .notStarted(let error):
            Self.isMissing(error) ? ExitCode.missingExecutable.rawValue : ExitCode.operatingSystem.rawValue
        }
    }
}

/// What the guard does about what happens to the program: a pure value, told the time with everything.
///
/// One child is the program: `current`. During a handover there is a second one, `successor`, which becomes the program as soon as it is
/// ready; what was the program until then is `retiring`: told to stop, with its time.
struct GuardMachine {
    struct Policy: Sendable {
        var intensity: RestartIntensity
        var backoff: Backoff
        /// So long a child may take from the request to stop to its end.
        var stopTime: Duration
        /// So long a program may take to be ready; nil: for ever.
        var startTime: Duration?
        /// So long a successor may.
        var handoverTime: Duration = .seconds(60)
        /// The guard only does what a first process of a container must: it starts nothing again.
        var isInit = false
    }

    enum Role: Equatable { case current, successor, retiring }

    struct Child: Equatable {
        let incarnation: Int
        let pid: Int32
        var role: Role
        let startTime: Duration
        var isReady = false
        /// It was told to stop, or does so by itself.
        var isStopping = false
        /// It has asked for another one in its place.
        var isExhausted = false
        /// When its time to stop, or to be ready, is over.
        var limit: Duration?
        /// It has asked for all the sockets that it wants.
        var isSettled = false
        /// It was told to stop a second time, and ends at once.
        var isForced = false
        /// It was never of use, and says that the next one would not be either.
        var lacksSomething = false
        /// What it dies of, if it dies by the guard's hand.
        var verdict: ChildEnd?
    }

    enum Action: Equatable {
        /// Start the executable; then tell `started` or `notStarted`.
        case start(incarnation: Int)
        case send(Int32, to: Int32)
        /// Tell it to stop, and that another one has taken its place: as SIGTERM.
        case retire(Int32)
        /// It has died, or did not stop as it should: to be written up.
        case report(pid: Int32, ChildEnd)
        /// A handover is over: sockets that this one has not asked for are nobody's any more.
        case closeSockets(notOf: Int32)
        /// The program's end is the guard's.
        case exit(Int32)
        case say(Line)
    }

    /// What the guard says on standard error.
    enum Line: Equatable {
        case restarting(pid: Int32, ChildEnd, uptime: Duration, delay: Duration)
        case givingUp(pid: Int32, ChildEnd, RestartIntensity)
        case useless(ChildEnd)
        case handingOver(from: Int32, to: Int32)
        case handedOver(from: Int32, to: Int32)
        case handoverFailed(ChildEnd)
        case noHandover(String)
        case hung(pid: Int32)
        case forcing(pid: Int32)
        case retired(pid: Int32, ChildEnd)
    }

    /// So many at a time, with those that still stop.
    private static let childLimit = 5

    let policy: Policy
    private(set) var children: [Child] = []
    private var window: RestartWindow
    private var failures = 0
    private var incarnations = 0
    /// When the program is to be started again; nil: it runs, or is to end.
    private(set) var nextStart: Duration?
    private(set) var isStopping = false
    /// The signals that asked for the stop.
    private var stopRequests = 0
    /// What the program has ended with, while others still stop.
    private var code: Int32?
    private var hasBeenReady = false
    /// It is to be replaced, as soon as that may be tried.
    private var wantsReplacement = false
    private var nextReplacement = Duration.zero

    init(_ policy: Policy) {
        self.policy = policy
        window = RestartWindow(policy.intensity)
    }

    /// The child that is the program, if it runs.
    var current: Child? { children.first { $0.role == .current } }
    /// Whether the guard is to end as soon as its children have.
    var isEnding: Bool { isStopping || code != nil }
    private var successor: Child? { children.first { $0.role == .successor } }

    /// When `timePassed` has something to do; nil: never.
    var nextTime: Duration? {
        var times = children.compactMap(\.limit)
        if let nextStart { times.append(nextStart) }
        if wantsReplacement, successor == nil, !isStopping, current?.isReady ?? false { times.append(nextReplacement) }
        return times.min()
    }

    // MARK: Events

    mutating func begin() -> [Action] { [start()] }

    private mutating func start() -> Action {
        nextStart = nil
        incarnations += 1
        return .start(incarnation: incarnations)
    }

    /// The executable that was to be started runs.
    mutating func started(_ pid: Int32, incarnation: Int, at now: Duration) -> [Action] {
        let role: Role = current == nil ? .current : .successor
        var child = Child(incarnation: incarnation, pid: pid, role: role, startTime: now)
        guard role == .successor, let former = current else {
            child.limit = policy.startTime.map { now + $0 }
            children.append(child)
            return []
        }
        child.limit = now + policy.handoverTime
        children.append(child)
        return [.say(.handingOver(from: former.pid, to: pid))]
    }

    /// The executable that was to be started cannot be.
    mutating func notStarted(_ error: Int32, at now: Duration) -> [Action] {
        if current != nil { return handoverFailed(.notStarted(error), at: now) }
        return failed(pid: 0, .notStarted(error), uptime: .zero, at: now)
    }

    /// A child has asked for all the sockets that it wants: it says so before it is ready.
    mutating func settled(_ pid: Int32) {
        guard let index = children.firstIndex(where: { $0.pid == pid }) else { return }
        children[index].isSettled = true
    }

    /// One that was replaced has ended: as long as another one stops, or takes over, sockets may be wanted.
    private func handoverEnded() -> [Action] {
        guard children.count == 1, let current, current.isReady, current.isSettled else { return [] }
        return [.closeSockets(notOf: current.pid)]
    }

    /// A child serves.
    mutating func ready(_ pid: Int32, at now: Duration) -> [Action] {
        guard let index = children.firstIndex(where: { $0.pid == pid }), !children[index].isReady else { return [] }
        children[index].isReady = true
        hasBeenReady = true
        guard !children[index].isStopping, children[index].verdict == nil, code == nil else { return [] }
        children[index].limit = nil
        return children[index].role == .successor ? promote(index, at: now) : []
    }

    /// The successor is the program; who was is told to stop.
    private mutating func promote(_ index: Int, at now: Duration) -> [Action] {
        // It may have asked for the same meanwhile.
        wantsReplacement = children[index].isExhausted
        nextReplacement = now
        children[index].role = .current
        guard let former = children.firstIndex(where: { $0.role == .current && $0.pid != children[index].pid }) else {
            return []
        }
        children[former].role = .retiring
        children[former].isStopping = true
        children[former].limit = now + policy.stopTime
        let pid = children[former].pid
        return [.say(.handedOver(from: pid, to: children[index].pid)), .retire(pid)]
    }

    /// A child ends now, as it lacks something that another one would lack, too.
    mutating func lacksSomething(_ pid: Int32) {
        guard let index = children.firstIndex(where: { $0.pid == pid }) else { return }
        children[index].lacksSomething = true
    }

    /// A child has begun to stop by itself.
    mutating func stopping(_ pid: Int32, at now: Duration) {
        guard let index = children.firstIndex(where: { $0.pid == pid }), !children[index].isStopping else { return }
        children[index].isStopping = true
        if children[index].verdict == nil { children[index].limit = now + policy.stopTime }
    }

    /// A child has ended.
    mutating func ended(_ pid: Int32, _ cause: ChildEnd, at now: Duration) -> [Action] {
        guard let index = children.firstIndex(where: { $0.pid == pid }) else { return [] }
        let child = children.remove(at: index)
        let cause = cause.isKill ? child.verdict ?? cause : cause
        let uptime = now - child.startTime
        // Of one that was told to stop.
        let report: [Action] = child.hasStopped(by: cause) ? [] : [.report(pid: pid, child.reported(cause))]
        switch child.role {
        case .retiring:
            if isStopping || code != nil { return report + endIfAlone() }
            return report + handoverEnded() + [.say(.retired(pid: pid, cause))]
        case .successor:
            if isStopping || code != nil { return report + endIfAlone() }
            return (cause == .exit(0) ? [] : [.report(pid: pid, cause)]) + handoverFailed(cause, at: now)
        case .current:
            if isStopping || policy.isInit {
                // The request may have come before the program knew what to do about it.
                code = code ?? (isStopping && cause == .signal(SIGTERM) ? 0 : cause.exitCode)
                let death: [Action] = cause == .exit(0) ? [] : [.report(pid: pid, cause)]
                return (isUseless(cause) ? [] : isStopping ? report : death) + endOthers(at: now) + endIfAlone()
            }
            if cause == .exit(0) {
                code = 0
                return endOthers(at: now) + endIfAlone()
            }
            // It has said what is wrong.
            if isUseless(cause) || child.lacksSomething { return useless(cause, at: now) }
            var actions: [Action] = [.report(pid: pid, cause)]
            if let index = children.firstIndex(where: { $0.role == .successor }) {
                // On its way already: it is what would be started now.
                let child = children[index]
                children[index].role = .current
                if !child.isStopping, child.verdict == nil {
                    children[index].limit = policy.startTime.map { child.startTime + $0 }
                }
                wantsReplacement = children[index].isExhausted
                nextReplacement = now
                return actions
            }
            actions += failed(pid: pid, cause, uptime: uptime, at: now)
            return actions
        }
    }

    private mutating func failed(pid: Int32, _ cause: ChildEnd, uptime: Duration, at now: Duration) -> [Action] {
        wantsReplacement = false
        nextReplacement = now
        if isUseless(cause) { return [.say(.useless(cause))] + useless(cause, at: now) }
        guard window.restart(at: now) == .tolerated else {
            code = cause.exitCode
            return [.say(.givingUp(pid: pid, cause, policy.intensity))] + endOthers(at: now) + endIfAlone()
        }
        failures = policy.backoff.failures(failures, afterUptime: uptime) + 1
        let delay = policy.backoff.delay(afterFailures: failures)
        nextStart = now + delay
        return [.say(.restarting(pid: pid, cause, uptime: uptime, delay: delay))]
    }

    /// Whether it would end so again: it was never ready, and says that it was called in a wrong way, or lacks something.
    private func isUseless(_ cause: ChildEnd) -> Bool {
        if hasBeenReady { return false }
        switch cause {
        case .exit(let code): return ExitCode(rawValue: code).saysThatStartingAgainIsUseless
        case .notStarted(let error): return ChildEnd.isMissing(error)
        case .signal, .hang, .outOfMemory, .forced, .notReady: return false
        }
    }

    private mutating func useless(_ cause: ChildEnd, at now: Duration) -> [Action] {
        code = cause.exitCode
        return endOthers(at: now) + endIfAlone()
    }

    private mutating func handoverFailed(_ cause: ChildEnd, at now: Duration) -> [Action] {
        failures += 1
        nextReplacement = now + max(policy.backoff.delay(afterFailures: failures), .seconds(1))
        return [.say(.handoverFailed(cause))]
    }

    /// The program has ended for good: so do the others.
    private mutating func endOthers(at now: Duration) -> [Action] {
        var actions: [Action] = []
        for index in children.indices where children[index].role != .retiring {
            children[index].role = .retiring
            // It was told before, or does so by itself: a second time would force it.
            if children[index].isStopping { continue }
            children[index].isStopping = true
            children[index].limit = now + policy.stopTime
            actions.append(.send(SIGTERM, to: children[index].pid))
        }
        return actions
    }

    private func endIfAlone() -> [Action] {
        guard children.isEmpty else { return [] }
        return [.exit(code ?? 0)]
    }

    /// A child asks for another one in its place: what its traps have leaked is too much.
    mutating func replacementWanted(by pid: Int32, at now: Duration) -> [Action] {
        guard let index = children.firstIndex(where: { $0.pid == pid }), !isStopping, !policy.isInit else { return [] }
        children[index].isExhausted = true
        guard children[index].role == .current, !wantsReplacement else { return [] }
        wantsReplacement = true
        return timePassed(now)
    }

    /// The executor of a child gives no sign of life.
    mutating func hung(_ pid: Int32, at now: Duration) -> [Action] {
        guard let index = children.firstIndex(where: { $0.pid == pid }), children[index].verdict == nil else {
            return []
        }
        children[index].verdict = .hang
        // Time to say what its threads do.
        children[index].limit = now + .seconds(1)
        return [.say(.hung(pid: pid)), .send(SIGQUIT, to: pid)]
    }

    /// The guard was sent a signal.
    ///
    /// - Parameter reachedAll: The terminal has sent it to the children, too.
    mutating func signaled(_ signal: Int32, reachedAll: Bool = false, at now: Duration) -> [Action] {
        switch signal {
        case SIGTERM, SIGINT:
            return stop(signal, reachedAll: reachedAll, at: now)
        case SIGUSR2:
            return handOver(at: now)
        case SIGHUP:
            if reachedAll { return [] }
            // One that is about to take over may have read the old configuration already: it hears of it as soon as it listens.
            return children.filter { $0.role != .retiring }.map { .send(SIGHUP, to: $0.pid) }
        case SIGQUIT, SIGUSR1, SIGWINCH:
            guard !reachedAll, let current else { return [] }
            return [.send(signal, to: current.pid)]
        default:
            return []
        }
    }

    /// A program that takes signals ends at once; on a machine that has much else to do that may be a while.
    static let forcedStopTime = Duration.seconds(3)

    private mutating func stop(_ signal: Int32, reachedAll: Bool, at now: Duration) -> [Action] {
        stopRequests += 1
        isStopping = true
        nextStart = nil
        if children.isEmpty { return [.exit(code ?? 0)] }
        var actions: [Action] = []
        for index in children.indices {
            // It was told before; a second time would force it.
            if stopRequests == 1, children[index].role == .retiring { continue }
            // The second one forces: what the children do not do themselves in a moment is done to them.
            let time = stopRequests == 1 ? policy.stopTime : Self.forcedStopTime
            // Until now it may have been the time to be ready in.
            let isNew = !children[index].isStopping && children[index].verdict == nil
            children[index].limit = isNew ? now + time : min(children[index].limit ?? now + time, now + time)
            children[index].isStopping = true
            children[index].isForced = stopRequests > 1
            if !reachedAll { actions.append(.send(stopRequests == 1 ? SIGTERM : signal, to: children[index].pid)) }
        }
        return actions
    }

    private mutating func handOver(at now: Duration) -> [Action] {
        if isStopping { return [.say(.noHandover("the program is stopping"))] }
        if policy.isInit { return [.say(.noHandover("the program has no guard: its boundary is not guarded"))] }
        guard let current else { return [.say(.noHandover("the program is about to be started anyway"))] }
        if !current.isReady { return [.say(.noHandover("the program is not ready itself"))] }
        if successor != nil { return [.say(.noHandover("one is under way"))] }
        if children.count >= Self.childLimit {
            return [.say(.noHandover("\(children.count - 1) programs that were replaced have not stopped yet"))]
        }
        return [start()]
    }

    /// Time has passed: perhaps until `nextTime`.
    mutating func timePassed(_ now: Duration) -> [Action] {
        var actions: [Action] = []
        for index in children.indices {
            guard let limit = children[index].limit, limit <= now else { continue }
            let child = children[index]
            children[index].limit = nil
            if child.verdict == nil {
                children[index].verdict = child.isReady || child.isStopping ? .forced : .notReady
                actions.append(.say(.forcing(pid: child.pid)))
            }
            actions.append(.send(SIGKILL, to: child.pid))
        }
        if let nextStart, nextStart <= now, !isStopping { actions.append(start()) }
        if wantsReplacement, successor == nil, !isStopping, nextReplacement <= now, current?.isReady ?? false,
            children.count < Self.childLimit
        {
            // Not again before this one has failed, or has been told of.
            nextReplacement = now + policy.handoverTime
            actions.append(start())
        }
        return actions
    }
}

extension GuardMachine.Child {
    /// Whether one that was told to stop has done so, perhaps before it knew what to do about it.
    fileprivate func hasStopped(by cause: ChildEnd) -> Bool { cause == .exit(0) || cause == .signal(SIGTERM) }

    /// What is told of its end: the status that a second request leaves is no choice of the program's.
    fileprivate func reported(_ cause: ChildEnd) -> ChildEnd {
        guard isForced, case .exit(let code) = cause else { return cause }
        return code == 128 + SIGTERM || code == 128 + SIGINT ? .forced : cause
    }
}

extension ChildEnd {
    /// Whether it can be the guard's own doing.
    fileprivate var isKill: Bool { self == .signal(SIGKILL) || self == .outOfMemory }
}
