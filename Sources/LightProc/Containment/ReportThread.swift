// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// The thread on which symbols are looked up, and on which reports are told: one for the program.
///
/// Looking up reads files, which takes milliseconds; so no worker does it, nor whoever else asks. The thread is made when
/// there is something to do for the first time: after a trap, or when somebody asks for words. It ends with the last pool, or,
/// where there is none, after ten idle seconds; the next one who needs it makes it again. Who asks goes before the queue of the
/// ``ContainmentLedger``.
///
/// It runs on any processor that the program may use, whoever made it, and takes no signals but those that its own faults
/// raise.
package final class ReportThread: Sendable {
    package static let shared = ReportThread()

    private struct State {
        /// What others asked for; the first is next.
        var requests: [@Sendable () -> Void] = []
        /// Nil while there is none. It sets that itself, before it ends.
        var thread: PlainThread?
        /// Whether it is to end when it has nothing more to do. Then somebody joins it.
        var isEnding = false
        /// Whether making it has failed, for the limit of threads.
        var isImpossible = false
    }
    private let state = Locked(State())
    private let bell = FutexWord()
    /// `pthread_self()` of the thread; 0 while there is none. Written by that thread.
    private let identity = AtomicWord(0)

    private init() {}

    /// So long it waits for more before it ends.
    private static let idleTime = Duration.seconds(10)

    /// Whether the calling thread is this one: then what is asked for is looked up there and then.
    // ordering: relaxed: only the thread itself can find its own number.
    private var isCurrent: Bool { identity.load(ordering: .relaxed) == UInt(pthread_self()) }

    /// Whether the calling thread may look up symbols: this one, or any where there can be none.
    var mayLookUp: Bool { isCurrent || state.withLock { $0.isImpossible } }

    /// Lets it look at what the ledger has to tell. Any thread but ones that may not wait for the making of a thread.
    package func wake() {
        let exists = state.withLock { state in
            start(&state)
            return state.thread != nil
        }
        guard exists else { return ContainmentLedger.shared.tellNews() }
        ring()
    }

    /// Calls `work` on it, after what others asked for before. Returns at once. Where no thread can be made, on the calling one.
    package func perform(_ work: @escaping @Sendable () -> Void) {
        let isAccepted = state.withLock { state in
            start(&state)
            if state.thread != nil { state.requests.append(work) }
            return state.thread != nil
        }
        guard isAccepted else { return work() }
        ring()
    }

    /// The result of `work`, once that has run on it; the calling thread waits meanwhile.
    func blockingWait<Result: Sendable>(for work: @escaping @Sendable () -> Result) -> Result {
        if isCurrent { return work() }
        let answer = Answer<Result>()
        perform {
            let result = work()
            answer.result.withLock { $0 = result }
            answer.isThere.set(1)
            answer.isThere.wake()
        }
        // Ends: every request is answered, also when the thread is about to end.
        while true {
            if let result = answer.result.withLock({ $0 }) { return result }
            answer.isThere.blockingWait(while: 0)
        }
    }

    private final class Answer<Result: Sendable>: Sendable {
        let result = Locked<Result?>(nil)
        let isThere = FutexWord()
    }

    /// Returns when everything is told that has happened, and the thread has ended. Not on that thread.
    package func blockingWaitForEnd() {
        let thread = state.withLock { state -> PlainThread? in
            // Somebody else joins it.
            if state.isEnding { return nil }
            // Who has news wakes it, but perhaps not yet.
            if ContainmentLedger.shared.hasNews { start(&state) }
            state.isEnding = state.thread != nil
            return state.thread
        }
        ring()
        thread?.join()
    }

    private func ring() {
        bell.increment()
        bell.wake()
    }

    /// Makes the thread if there is none. It cannot do more than wait for the lock before this has returned.
    private func start(_ state: inout State) {
        guard state.thread == nil else { return }
        state.thread = PlainThread(ifPossible: "bastion-reports") { [self] in loop() }
        state.isImpossible = state.thread == nil
    }

    private func loop() {
        Self.becomeNobodys()
        // ordering: relaxed: as in `isCurrent`.
        identity.store(UInt(pthread_self()), ordering: .relaxed)
        while true {
            // Read before the looks, so that no call is slept through.
            let seen = bell.value
            if let request = state.withLock({ $0.requests.isEmpty ? nil : $0.requests.removeFirst() }) {
                request()
            } else if !ContainmentLedger.shared.tellNext() {
                if hasEnded() { return }
                bell.blockingWait(while: seen, timeout: Self.idleTime)
                if hasEnded(isIdle: bell.value == seen) { return }
            }
        }
    }

    /// Decides under the lock, so that whoever comes with something either finds the thread, or makes the next one.
    private func hasEnded(isIdle: Bool = false) -> Bool {
        state.withLock { state in
            guard state.isEnding || isIdle, state.requests.isEmpty, !ContainmentLedger.shared.hasNews else {
                return false
            }
            if !state.isEnding { state.thread?.detach() }
            state.thread = nil
            state.isEnding = false
            // ordering: relaxed: as in `isCurrent`.
            identity.store(0, ordering: .relaxed)
            return true
        }
    }

    /// Gives up what it has from the thread that made it, which may be a worker.
    private static func becomeNobodys() {
        crt_useAllProcessors()
        var signals = sigset_t()
        sigfillset(&signals)
        for fault in [SIGILL, SIGTRAP, SIGFPE, SIGABRT, SIGSEGV, SIGBUS] { sigdelset(&signals, fault) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
    }
}
