// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A value that comes once, and one who waits for it. Whoever settles it first counts.
final class OneShot<Value: Sendable>: Sendable {
    private struct State {
        var value: Value?
        var waiter: (@Sendable (Value) -> Void)?
    }
    private let state = Locked(State())

    /// Settles it, if nobody has; the waiter is called on this thread.
    func settle(_ value: Value) {
        let waiter = state.withLock { state -> (@Sendable (Value) -> Void)? in
            guard state.value == nil else { return nil }
            state.value = value
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?(value)
    }

    /// The value, if it has come.
    var known: Value? { state.withLock { $0.value } }

    /// Waits for it; once.
    func value() async -> Value {
        await suspended { continuation in
            let known = state.withLock { state -> Value? in
                if state.value == nil { state.waiter = { continuation.resume(returning: $0) } }
                return state.value
            }
            if let known { continuation.resume(returning: known) }
        }
    }
}
