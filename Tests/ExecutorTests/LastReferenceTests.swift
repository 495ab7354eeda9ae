// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

/// Who lets go of the last reference to a process does not answer for what its body does as it dies.
@Suite struct LastReferenceTests {
    private final class Bomb: Sendable {
        let wentOff: UnsafeContinuation<Void, Never>
        init(_ wentOff: UnsafeContinuation<Void, Never>) { self.wentOff = wentOff }
        deinit {
            wentOff.resume()
            _ = opaque([1])[opaque(5)]
        }
    }

    private struct Carrier: ReactiveBody {
        let bomb: Bomb
        mutating func receive(_ message: consuming Int, on proc: LightProc) {}
    }

    @Test func aTrapInTheDeinitOfABodyEndsNobodyElse() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            await withUnsafeContinuation { continuation in
                // The only reference dies here, on a thread that is no worker: a trap on it would end the program.
                _ = LightProc.reactive(Carrier(bomb: Bomb(continuation)), on: pool)
            }
            let value = try await pool.spawn { 7 }.outcome().get()
            precondition(value == 7)
            await shutDown(pool)
            precondition(Containment.contained == 1)
        }
    }
}
