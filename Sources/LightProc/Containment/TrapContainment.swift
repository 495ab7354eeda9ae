// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import CLightProc
import Glibc

/// Decides, on a normal thread, what becomes of a thread that trapped. One per program; used by the reaper only.
package final class TrapContainment {
    /// Who trapped.
    package struct Culprit {
        package let proc: LightProc
        /// The incarnation whose job it was; nil for a handler of a reactive process or a hook.
        package let executor: ProcTaskExecutor?
    }

    package enum Verdict {
        case contain(Culprit, Evidence)
        /// Not ours to contain, and why.
        case escalate(String)
    }

    /// What a report is made of, later, when the worker has been replaced.
    package struct Evidence {
        let signal: Int32
        let isStackOverflow: Bool
        let frames: [UInt]
    }

    private let classifier = TrapClassifier()
    private let symbolizer = Symbolizer()
    private var messages = RuntimeMessages()
    /// Words of threads that are still waiting for their verdict.
    private var own: [UnsafeMutablePointer<crt_thread>: String] = [:]
    private let executorWitness: UInt

    package init() {
        Self.installHandler
        let proc = LightProc.async(on: Nobody()) { _ in }
        executorWitness = ProcTaskExecutor(proc, incarnation: 0).identity.witness
    }

    /// Installs the signal handler once per run of the program.
    private static let installHandler: Void = {
        let status = crt_installTrapHandlers()
        // sigaction fails only for a bad signal number or address (EINVAL, EFAULT): neither can occur here.
        precondition(status == 0, "sigaction failed with errno \(status)")
    }()

    /// Decides about a parked thread.
    package func verdict(on thread: UnsafeMutablePointer<crt_thread>) -> Verdict {
        guard crt_awaitTrapDetails(thread, 1000) else {
            return .escalate("the Swift runtime did not say within a second whose task it was")
        }
        let evidence = classifier.examine(thread)
        if case .notContained(let why) = evidence.finding { return .escalate(why) }
        guard let culprit = culprit(of: thread) else { return .escalate("the current task belongs to no process") }
        if culprit.executor == nil, culprit.proc.isCancellingTask {
            return .escalate("a cancellation handler was running: the lock of the task's status is held")
        }
        let signal = thread.pointee.trap.signal
        return .contain(
            culprit,
            Evidence(signal: signal, isStackOverflow: signal == SIGSEGV || signal == SIGBUS, frames: evidence.frames)
        )
    }

    /// Reads what the handler of a waiting thread took of the runtime's words, so that a trap before it in the queue finds
    /// its own there.
    package func shareMessages(of thread: UnsafeMutablePointer<crt_thread>) {
        let reports = takeMessages(of: thread)
        // With one report the words are that thread's own, and are kept for it.
        guard let first = reports.first else { return }
        own[thread] = first
        messages.leave(reports.dropFirst())
    }

    private func takeMessages(of thread: UnsafeMutablePointer<crt_thread>) -> [String] {
        guard crt_awaitTrapDetails(thread, 1000), let buffer = thread.pointee.trap.message else { return [] }
        thread.pointee.trap.message = nil
        return messages.read(buffer)
    }

    private static var wallClock: Duration {
        var time = timespec()
        // Fails only for an unknown clock or a bad address; neither can occur.
        clock_gettime(CLOCK_REALTIME, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

    /// The current task knows its process, also where the worker was draining an actor for another.
    private func culprit(of thread: UnsafeMutablePointer<crt_thread>) -> Culprit? {
        let trap = thread.pointee.trap
        guard trap.hasTask else {
            // What the last job of a guest's task leaves behind is destroyed when that is current no more.
            if let guest = ProcTaskExecutor.guest(of: thread) { return Culprit(proc: guest.proc, executor: guest) }
            // safety: the worker holds the process while it runs it.
            return Culprit(
                proc: Unmanaged<LightProc>.fromOpaque(thread.pointee.process).takeUnretainedValue(),
                executor: nil
            )
        }
        guard trap.taskExecutorWitness == executorWitness, let object = UnsafeRawPointer(bitPattern: trap.taskExecutor)
        else { return nil }
        // safety: the witness table says what it is, and the parked thread's current task holds it.
        let executor = Unmanaged<ProcTaskExecutor>.fromOpaque(object).takeUnretainedValue()
        return Culprit(proc: executor.proc, executor: executor)
    }

    /// Puts into words what happened. Costs a look into debug information the first time an address traps.
    package func report(
        _ evidence: Evidence,
        of culprit: Culprit,
        on thread: UnsafeMutablePointer<crt_thread>
    ) -> TrapReport {
        let pc = evidence.frames.first ?? 0
        let failure = evidence.isStackOverflow ? nil : symbolizer.runtimeFailure(at: pc)
        // Optimised traps say nothing; their words are in the debug information.
        let own = self.own.removeValue(forKey: thread).map { [$0] } ?? takeMessages(of: thread)
        let message = messages.claim(own: own, speaks: failure == nil && !evidence.isStackOverflow) ?? failure
        let kind: TrapKind =
            if evidence.isStackOverflow {
                .stackOverflow
            } else if let known = message.flatMap(TrapKind.init(words:)) {
                known
            } else {
                switch evidence.signal {
                case SIGFPE: .divisionByZero
                case SIGABRT: .abort
                default: .trap
                }
            }
        return TrapReport(
            kind: kind,
            message: message,
            signal: evidence.signal,
            process: culprit.proc.id,
            name: culprit.proc.name,
            messageType: culprit.proc.messageType.map { "\($0)" },
            time: Self.wallClock,
            backtrace: evidence.frames
        )
    }
}

/// A scheduler for a process that never runs.
private final class Nobody: ProcScheduler {
    func schedule(_ proc: LightProc) {}
    func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) {}
    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken { TimerToken {} }
    var now: Duration { .zero }
}
