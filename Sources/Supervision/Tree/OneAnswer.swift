// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// An answer that is given once: at the latest, as the fallback, when nobody is left who would give it, as the supervisor has ended.
final class OneAnswer<Value: Sendable>: Sendable {
    private let action: Locked<(@Sendable (Value) -> Void)?>
    private let fallback: Value

    /// - Parameter action: On any thread; must not block.
    init(orElse fallback: Value, _ action: @escaping @Sendable (Value) -> Void) {
        self.fallback = fallback
        self.action = Locked(action)
    }

    deinit { give(fallback) }

    func give(_ value: Value) {
        let action = action.withLock { action in
            defer { action = nil }
            return action
        }
        action?(value)
    }
}

/// Something to be called once, at the latest when nobody is left who would call it.
typealias OneCall = OneAnswer<Void>

extension OneAnswer<Void> {
    /// - Parameter action: On any thread; must not block.
    convenience init(_ action: @escaping @Sendable () -> Void) { self.init(orElse: ()) { _ in action() } }

    func callAsFunction() { give(()) }
}
