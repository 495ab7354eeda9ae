// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import CLightProc
import Glibc

/// Decides, on a normal thread, what becomes of a thread that trapped. One for the program; any thread.
package final class TrapContainment: Sendable {
    /// Made before anything runs that may trap: making it installs the handler.
    package static let shared = TrapContainment()

    /// Who trapped.
    package struct Culprit {
        package let proc: LightProc
        /// The incarnation whose job it was; nil for a handler of a reactive process or a hook.
        package let executor: ProcTaskExecutor?
    }

    package enum Verdict {
        case contain(Culprit, Evidence)
        /// Not ours to contain, and why. By who decides, if the thread itself cannot: it waits for a lock in its handler,
        /// perhaps of somebody who waits for what it holds.
        case escalate(StaticString, byDecider: Bool)
    }

    /// What a report is made of, later, when the worker has been replaced.
    package struct Evidence {
        let signal: Int32
        let isStackOverflow: Bool
        let frames: [UInt]
        let usedStack: Int
        let speaks: Bool
    }

    /// Held for the length of a walk. Nobody who is walked over can hold it: a trap under a lock of ours is not contained.
    private let classifier = Locked(TrapClassifier())
    private let executorWitness: UInt

    private init() {
        Self.installHandler
        executorWitness = ProcTaskExecutor.witness
    }

    /// Installs the signal handler once per run of the program.
    private static let installHandler: Void = {
        let status = crt_installTrapHandlers()
        // sigaction fails only for a bad signal number or address (EINVAL, EFAULT): neither can occur here.
        precondition(status == 0, "sigaction failed with errno \(status)")
    }()

    /// Decides about a parked thread. Does not allocate before it is known that the thread holds no lock of the allocator.
    package func verdict(on thread: UnsafeMutablePointer<crt_thread>) -> Verdict {
        // The walk first: it needs the registers only, and meanwhile the thread finds out whose task it was.
        let evidence = classifier.withLock { $0.examine(thread) }
        let hasTold = crt_awaitTrapDetails(thread, 1000)
        if case .notContained(let why) = evidence.finding { return .escalate(why, byDecider: !hasTold) }
        guard hasTold else {
            return .escalate("the Swift runtime did not say within a second whose task it was", byDecider: true)
        }
        guard let culprit = culprit(of: thread) else {
            return .escalate("the current task belongs to no process", byDecider: false)
        }
        if culprit.executor == nil, culprit.proc.isCancellingTask {
            return .escalate(
                "a cancellation handler was running: the lock of the task's status is held",
                byDecider: false
            )
        }
        if ContainmentLedger.shared.policy(of: culprit.proc.domain) == .crash {
            return .escalate("the policy of the process is to crash", byDecider: false)
        }
        let signal = thread.pointee.trap.signal
        return .contain(
            culprit,
            Evidence(
                signal: signal,
                isStackOverflow: signal == SIGSEGV || signal == SIGBUS,
                frames: evidence.frames,
                usedStack: evidence.usedStack,
                speaks: evidence.speaks
            )
        )
    }

    private static var wallClock: Duration {
        var time = timespec()
        // Fails only for an unknown clock or a bad address; neither can occur.
        clock_gettime(CLOCK_REALTIME, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

    /// The current task knows its process, also where the worker was draining an actor for another, or for a task of none.
    private func culprit(of thread: UnsafeMutablePointer<crt_thread>) -> Culprit? {
        let trap = thread.pointee.trap
        guard trap.task != nil else {
            // What the last job of a guest's task leaves behind is destroyed when that is current no more.
            if let guest = ProcTaskExecutor.guest(of: thread) { return Culprit(proc: guest.proc, executor: guest) }
            // safety: the worker holds the process while it runs it.
            return thread.pointee.process.map {
                Culprit(proc: Unmanaged<LightProc>.fromOpaque($0).takeUnretainedValue(), executor: nil)
            }
        }
        guard trap.taskExecutorWitness == executorWitness, let object = UnsafeRawPointer(bitPattern: trap.taskExecutor)
        else { return nil }
        // safety: the witness table says what it is, and the parked thread's current task holds it.
        let executor = Unmanaged<ProcTaskExecutor>.fromOpaque(object).takeUnretainedValue()
        return Culprit(proc: executor.proc, executor: executor)
    }

    /// Reports what happened: puts it into the ledger, and returns it as the reason for the process's end.
    ///
    /// Looks nothing up: that is for who reads the report.
    package func report(
        _ evidence: Evidence,
        of culprit: Culprit,
        on thread: UnsafeMutablePointer<crt_thread>
    ) -> TrapReport {
        let content = TrapReportContent(
            signal: evidence.signal,
            isStackOverflow: evidence.isStackOverflow,
            speaks: evidence.speaks,
            process: culprit.proc.id,
            name: culprit.proc.name,
            path: culprit.proc.path,
            messageType: culprit.proc.actualMessageType(on: thread) ?? culprit.proc.messageType,
            time: Self.wallClock,
            backtrace: evidence.frames,
            words: thread.pointee.trap.message
        )
        thread.pointee.trap.message = nil
        ReportResolver.shared.add(content)
        crt_trapReported()
        let report = TrapReport(content)
        // The task, or the body, is added when the process is told.
        let leaked = min(evidence.usedStack, Self.bytesOfFrames)
        ContainmentLedger.shared.add(
            report,
            domain: culprit.proc.domain,
            leaking: leaked,
            restarts: culprit.proc.restarts
        )
        return report
    }

    /// What a task that never finishes keeps, by measurement: its record, its stack, its executor and the closure it runs.
    package static let bytesOfTask = 1536

    /// What the frames of one trapped stack are taken to hold at most: in a recursion they hold little each.
    private static let bytesOfFrames = 16 << 10
}
