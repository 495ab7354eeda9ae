// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import LightProc

/// What a body owns dies where processes run, never on the thread that let go of the last reference.
@Suite struct LastReferenceTests {
    /// Has a thread of its own run what is ready before the caller goes on.
    private final class Eager: ProcScheduler {
        func schedule(_ proc: LightProc) { onThreads(1) { _ in while proc.run() {} } }
        func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) {}
        func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
            TimerToken {}
        }
        var now: Duration { .zero }
    }

    private final class Witness: Sendable {
        private let caller = pthread_self()
        private let record: Record<String>
        init(_ record: Record<String>) { self.record = record }
        deinit { record.note(pthread_equal(caller, pthread_self()) != 0 ? "caller" : "worker") }
    }

    private struct Carrier: ReactiveBody {
        let witness: Witness
        mutating func receive(_ message: consuming Int, on proc: LightProc) {}
    }

    @Test func aWorkerThatIsFasterThanTheCallerDestroysTheBody() {
        let record = Record<String>()
        do { _ = LightProc.reactive(Carrier(witness: Witness(record)), on: Eager()) }
        #expect(record.events == ["worker"])
    }
}
