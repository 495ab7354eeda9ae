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
}

extension Trait where Self == ConditionTrait {
    /// For tests of how little a thread does that trapped: a sanitizer keeps its own data of each thread behind a key of
    /// pthreads, so there the thread forgets none.
    fileprivate static var withThreadsThatForget: Self {
        .disabled(if: Sanitizer.isAny, "a sanitizer needs its data of the thread")
    }
}
