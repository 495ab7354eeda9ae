// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// Whether `task.c` knows this runtime's tasks, tried out on real ones before the first process runs.
///
/// What does not stand the test is not used: child tasks are then not counted (an incarnation that ends does not wait for
/// those that are suspended), or the jobs of a poisoned actor cannot be told whose they are.
enum TaskHooks {
    /// Whether child tasks are counted.
    static var countsChildren: Bool { installed.countsChildren }
    /// Whether a job can be asked, before it runs, to which process it belongs.
    static var knowsOwners: Bool { installed.knowsOwners }

    /// Done once, by whoever needs it first; the others wait.
    static let installed: (countsChildren: Bool, knowsOwners: Bool) = {
        let trial = Trial()
        let hooks = crt_childHooks(
            before: { executor in
                // safety: the task that is completing holds its executor.
                _ = executor.map { Unmanaged<ProcTaskExecutor>.fromOpaque($0).retain() }
            },
            after: { executor in
                // safety: retained by `before`.
                executor.map { Unmanaged<ProcTaskExecutor>.fromOpaque($0).takeRetainedValue() }?.childCompleted()
            }
        )
        crt_setTaskHooks(ProcTaskExecutor.witness, hooks)
        crt_enableCounting(trial.countsChildren)
        return (trial.countsChildren, trial.knowsOwners)
    }()
}

/// A few tasks of every kind, run on the calling thread by an executor of their own.
private struct Trial {
    let countsChildren: Bool
    let knowsOwners: Bool

    /// Child tasks of one run, of every kind that there is.
    private static let childCount = 7

    init() {
        let learner = TrialExecutor(intercepts: false)
        learner.run(Self.tasks)
        guard learner.firstJobs == Self.childCount + 1, learner.hasLearned else {
            (countsChildren, knowsOwners) = (false, false)
            return
        }
        // The same again, with everything that the real hooks do.
        let tester = TrialExecutor(intercepts: true)
        crt_setTaskHooks(
            tester.witness,
            crt_childHooks(before: { _ in Trial.note(0) }, after: { _ in Trial.note(1) })
        )
        crt_enableCounting(true)
        tester.run(Self.tasks)
        crt_enableCounting(false)
        knowsOwners = tester.hasRun && tester.jobs > Self.childCount && tester.entered == tester.jobs
        countsChildren = tester.hasRun && Self.noted.allSatisfy { $0 == Self.childCount }
    }

    /// How often each hook was called. Used by one thread, in the initialiser of `installed`.
    nonisolated(unsafe) private static var noted = [0, 0]
    private static func note(_ hook: Int) { noted[hook] += 1 }

    private struct Failure: Error {}

    @Sendable private static func tasks() async {
        await withTaskGroup(of: Void.self) { $0.addTask {} }
        await withTaskGroup(of: Int.self) { group in
            group.addTask { 1 }
            group.addTask {
                await Task.yield()
                return 2
            }
            await group.waitForAll()
        }
        try? await withThrowingTaskGroup(of: Int.self) { group in
            group.addTask { throw Failure() }
            try await group.waitForAll()
        }
        await withDiscardingTaskGroup { $0.addTask {} }
        async let nothing: Void = {}()
        async let number = 1
        _ = await (nothing, number)
    }
}

/// Runs the jobs of a trial on the calling thread.
private final class TrialExecutor: TaskExecutor, @unchecked Sendable {
    // Sendable: nothing in a trial waits for other threads, so all happens on the one that called `run`.
    private var queue: [UnownedJob] = []
    private(set) var firstJobs = 0
    private(set) var hasLearned = true
    private(set) var jobs = 0
    private(set) var entered = 0
    private(set) var hasRun = false
    private let intercepts: Bool

    init(intercepts: Bool) { self.intercepts = intercepts }

    var witness: UInt {
        // safety: see `ProcTaskExecutor.identity`.
        unsafeBitCast(asUnownedTaskExecutor(), to: (UInt, UInt).self).1
    }

    func run(_ tasks: @escaping @Sendable () async -> Void) {
        Task.detached(executorPreference: self) {
            await tasks()
            self.hasRun = true
        }
        // Ends: the tasks are few and wait for each other only.
        while !queue.isEmpty { run(queue.removeFirst()) }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let address = job.address
        if crt_isFirstJob(address) {
            firstJobs += 1
            if !intercepts { hasLearned = crt_learnCompletion(address) && hasLearned }
            // The first of all is no child.
            if intercepts, firstJobs > 1, crt_isCountable(address) { crt_countChild(address) }
        }
        queue.append(job)
    }

    private func run(_ job: UnownedJob) {
        guard intercepts else { return job.runSynchronously(on: asUnownedTaskExecutor()) }
        var visit = crt_visit()
        visit.host = Unmanaged.passUnretained(self).toOpaque()
        visit.guest = job.address
        visit.mayEnter = { visit, executor, task in
            guard let visit, let host = visit.pointee.host else { return true }
            // safety: set above, to the executor that is running this job.
            let trial = Unmanaged<TrialExecutor>.fromOpaque(host).takeUnretainedValue()
            if executor == host, task == visit.pointee.guest { trial.entered += 1 }
            return true
        }
        withUnsafeMutablePointer(to: &visit) { visit in
            // Not so what a yield queues: a job that is no task.
            if crt_intercept(job.address, visit) { jobs += 1 }
            job.runSynchronously(on: asUnownedTaskExecutor())
        }
    }
}

extension UnownedJob {
    /// Where the job lies.
    package var address: UnsafeMutableRawPointer {
        // safety: an unowned job is the pointer to it.
        unsafeBitCast(self, to: UnsafeMutableRawPointer.self)
    }
}
