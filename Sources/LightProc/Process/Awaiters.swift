// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Somebody who waits for the end of a process.
enum Awaiter: Sendable {
    case continuation(UnsafeContinuation<ExitReason, Never>)
    case call(@Sendable (ExitReason) -> Void)

    func tell(_ reason: ExitReason) {
        switch self {
        case .continuation(let continuation): continuation.resume(returning: reason)
        case .call(let action): action(reason)
        }
    }
}

/// Somebody who is to be told of an end, and whether nobody else is.
struct Mourner {
    enum Who {
        case receipt(MessageReceipt)
        case awaiter(Awaiter)
    }
    let who: Who
    let isLast: Bool

    func tell(_ reason: ExitReason) {
        switch who {
        case .receipt(let receipt): receipt.processEnded(reason)
        case .awaiter(let awaiter): awaiter.tell(reason)
        }
    }
}

/// Who waits for the end of a process; the last to come is told first. Almost always it is one, which costs no allocation.
struct Awaiters {
    private var first: Awaiter?
    private var others: [Awaiter] = []

    var isEmpty: Bool { first == nil }

    mutating func append(_ awaiter: Awaiter) {
        if first == nil { first = awaiter } else { others.append(awaiter) }
    }

    mutating func popLast() -> Awaiter? {
        if let last = others.popLast() { return last }
        return swap(&first, with: nil)
    }
}
