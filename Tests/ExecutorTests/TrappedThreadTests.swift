// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Dispatch
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// What a thread still does that has trapped: nothing but end.
@Suite(.serialized, .timeLimit(.minutes(15))) struct TrappedThreadTests {
    /// What a library keeps for each thread, and destroys with it.
    private enum Specific {
        nonisolated(unsafe) private static var key = pthread_key_t()
        private static let destructions = Atomic(0)

        /// How many were destroyed.
        // ordering: sequentiallyConsistent: tests are not in a hurry.
        static var destroyed: Int { destructions.load(ordering: .sequentiallyConsistent) }

        static func install() {
            let status = pthread_key_create(&key) { _ in
                Specific.destructions.add(1, ordering: .sequentiallyConsistent)
            }
            precondition(status == 0)
        }

        static func make() { precondition(pthread_setspecific(key, UnsafeRawPointer(bitPattern: 1)) == 0) }
    }

    @Test(.withThreadsThatForget)
    func theDestructorsOfItsThreadSpecificDataAreNotCalled() async {
        await #expect(processExitsWith: .success) {
            Specific.install()
            let pool = try WorkerPool(workers: 1)
            let culprit = pool.spawn {
                Specific.make()
                Misdeed.index.commit()
            }
            #expect(await culprit.handle.exit().trapReport?.process == culprit.id)
            let blocking = pool.spawnBlocking {
                Specific.make()
                Misdeed.index.commit()
            }
            #expect(await blocking.handle.exit().trapReport?.process == blocking.id)
            try await pool.spawn { Specific.make() }.outcome().get()
            try await pool.spawnBlocking { Specific.make() }.outcome().get()
            // Every thread is joined.
            await pool.shutDownElsewhere()
            #expect(Specific.destroyed == 2, "of the two threads that did not trap")
        }
    }

    /// Dispatch has a thread remember the queue, and ends the program if the thread ends with it.
    @Test(.withThreadsThatForget)
    func aTrapBelowTheSyncOfADispatchQueueIsContained() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 1)
            let culprit = pool.spawn { DispatchQueue(label: "of one process").sync { _ = Misdeed.index.commit() } }
            #expect(await culprit.handle.exit().trapReport?.process == culprit.id)
            #expect(try await pool.spawn { DispatchQueue(label: "of another").sync { 7 } }.outcome().get() == 7)
            await pool.shutDownElsewhere()
            #expect(Containment.contained == 1)
        }
    }

    // MARK: Whose task it was

    /// What ends a program whose array index is out of range.
    private static var trapSignal: Int32 {
        #if arch(x86_64)
        SIGILL
        #else
        SIGTRAP
        #endif
    }

    /// Who cancels a task holds the lock of its status while handlers run. Nobody is to wait for that to learn whose task it was.
    @Test func aTrapWhileSomebodyCancelsTheTaskIsContained() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let started = AsyncGate()
            let (isCancelling, release) = (PollGate(), PollGate())
            let culprit = pool.spawn {
                await withTaskCancellationHandler {
                    started.open()
                    isCancelling.blockingWait()
                    _ = Misdeed.index.commit()
                } onCancel: {
                    isCancelling.open()
                    release.blockingWait()
                }
            }
            await started.wait()
            culprit.cancel()
            // Ends: by the trap, or with the program.
            while Containment.contained == 0 { await Task.yield() }
            release.open()
            _ = await culprit.handle.exit()
            #expect(try await pool.spawn { 7 }.outcome().get() == 7)
            await pool.shutDownElsewhere()
        }
    }

    private actor Clerk {
        /// Keeps the actor until the gate opens.
        func hold(_ inside: AsyncGate, until release: PollGate) {
            inside.open()
            release.blockingWait()
        }

        private var attempts = 0

        /// Traps when somebody cancels the task, who waits for ever then.
        func commitWhenCancelled(_ started: AsyncGate) async {
            let (isCancelling, never) = (PollGate(), PollGate())
            await withTaskCancellationHandler {
                // The actor's state: this is in its turn, too.
                attempts += 1
                started.open()
                isCancelling.blockingWait()
                _ = Misdeed.index.commit()
            } onCancel: {
                isCancelling.open()
                never.blockingWait()
            }
        }
    }

    /// In an actor's turn the lock is needed: if it does not come, the program ends, by the hand of who decides.
    @Test func aTrapInAnActorWhileSomebodyCancelsTheTaskForEverEndsTheProgram() async {
        let result = await #expect(
            processExitsWith: .signal(Self.trapSignal),
            observing: [\.standardErrorContent]
        ) {
            let pool = try WorkerPool(workers: 2)
            let clerk = Clerk()
            let (inside, started, release) = (AsyncGate(), AsyncGate(), PollGate())
            let holder = pool.spawn { await clerk.hold(inside, until: release) }
            await inside.wait()
            // Its job is run by who gives the actor the next turn.
            let culprit = await callThatWaits(on: pool) { await clerk.commitWhenCancelled(started) }
            release.open()
            try await holder.outcome().get()
            await started.wait()
            culprit.cancel()
            // Ends: with the program.
            while true { await Task.yield() }
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("not contained: the Swift runtime did not say within a second whose task it was"))
    }

    // MARK: Who is being woken

    enum Receiver: CaseIterable, Codable, Sendable {
        case reactive, async

        fileprivate func make(on pool: WorkerPool) -> LightProc {
            switch self {
            case .reactive: return LightProc.reactive(Doer(), on: pool)
            case .async:
                let proc = LightProc.async(on: pool) { proc in
                    while let node = await proc.receiveNode() {
                        try node.open(as: Doer.Deed.self).message.act(proc)
                    }
                }
                proc.declareMessages(of: Doer.Deed.self)
                proc.restart()
                return proc
            }
        }
    }

    /// Tells one after the other, each from a deeper place in the stack, until that is used up.
    @inline(never)
    private static func tellEach(of receivers: [LightProc], _ depth: Int) -> Int {
        if opaque(depth) < 0 { return 0 }
        receivers[depth % receivers.count].tell { _ in }
        return tellEach(of: receivers, depth + 1) + 1
    }

    /// Calls `body` from a place in the stack that is some steps deeper.
    @inline(never)
    private static func deeper(_ steps: Int, _ body: () -> Int) -> Int {
        if opaque(steps) == 0 { return body() }
        return deeper(steps - 1, body) + 1
    }

    /// A process that uses its stack up in the middle of a send does not end between the promise that the receiver will be run and
    /// its place in the queue: nobody else would run it any more. Nor does it take a worker with it that it is about to wake.
    @Test(.disabled(if: Sanitizer.isAny, "its frames are larger than what is reserved"), arguments: Receiver.allCases)
    func aStackThatIsUsedUpInTheMiddleOfASendLosesNobody(receiver: Receiver) async {
        await #expect(processExitsWith: .success) { [receiver] in
            let pool = try WorkerPool(workers: 2)
            let receivers = (0..<4_000).map { _ in receiver.make(on: pool) }
            let rounds = 40
            for round in 0..<rounds {
                let culprit = LightProc.reactive(Doer(), on: pool)
                culprit.tell { _ in _ = Self.deeper(round) { Self.tellEach(of: receivers, 0) } }
                #expect(await exit(of: culprit).trapReport?.kind == .stackOverflow)
                let everybody = AsyncGate()
                let arrival = Arrival(count: receivers.count, everybody)
                for receiver in receivers { receiver.tell { _ in arrival.arrive() } }
                await everybody.wait()
            }
            #expect(Containment.contained == rounds)
            await pool.shutDownElsewhere()
        }
    }

    /// Opens a gate when as many have arrived.
    private final class Arrival: Sendable {
        private let missing: Atomic<Int>
        private let everybody: AsyncGate

        init(count: Int, _ everybody: AsyncGate) {
            missing = Atomic(count)
            self.everybody = everybody
        }

        func arrive() {
            // ordering: sequentiallyConsistent: tests are not in a hurry.
            if missing.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 { everybody.open() }
        }
    }
}

extension Trait where Self == ConditionTrait {
    /// For tests of how little a thread does that trapped: a sanitizer keeps its own data of each thread behind a key of
    /// pthreads, so there the thread forgets none.
    fileprivate static var withThreadsThatForget: Self {
        .disabled(if: Sanitizer.isAny, "a sanitizer needs its data of the thread")
    }
}
