// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Several asks of which the first answer counts.
final class FirstAnswer<Value: Sendable>: Sendable {
    private let asks: [PendingReply<Value>]
    private let left: Locked<Int>
    private let answer = OneShot<Result<Value, AskError>>()

    init(_ asks: [PendingReply<Value>]) {
        self.asks = asks
        left = Locked(asks.count)
    }

    /// The first answer; then the others are given up, as they are when the calling task is cancelled. Once.
    func value() async throws(AskError) -> Value {
        for pending in asks {
            // On whatever thread settles it; no code of the user's.
            pending.whenSettled { [weak self] in self?.settled($0) }
        }
        let result = await withTaskCancellationHandler {
            await answer.value()
        } onCancel: {
            giveUp()
        }
        giveUp()
        return try result.get()
    }

    private func settled(_ result: Result<Value, AskError>) {
        let isLast = left.withLock { left in
            left -= 1
            return left == 0
        }
        if case .success = result {
            answer.settle(result)
        } else if isLast {
            answer.settle(result)
        }
    }

    private func giveUp() { for pending in asks { pending.cancel() } }
}
