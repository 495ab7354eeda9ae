// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import RuntimeTestKit
import Supervision
import Testing

struct Failure: Error, Equatable {}

/// A reactive child: counts, answers, fails, says who it is.
struct Counter: Reactive {
    enum Message: Sendable {
        case add(Int)
        case total(Reply<Int>)
        case keep(Reply<Int>)
        case fail
    }
    var total = 0
    var kept: [Reply<Int>] = []

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
        switch message {
        case .add(let number): total += number
        case .total(let reply): reply(total)
        case .keep(let reply): kept.append(reply)
        case .fail: throw Failure()
        }
    }
}

/// The same as an async child.
@Sendable func counter(_ context: Context) async throws {
    var total = 0
    for await message in context.messages(of: Counter.Message.self) {
        switch message {
        case .add(let number): total += number
        case .total(let reply): reply(total)
        case .keep: await context.untilStopped()
        case .fail: throw Failure()
        }
    }
}

/// What a child is, and how it gets its messages.
enum ChildKind: String, CaseIterable, CustomTestStringConvertible {
    case reactive, async, managedReactive, managedAsync
    var testDescription: String { rawValue }

    /// Counters of this kind; managed ones have room for more than tests send.
    func counters(_ name: String, redundancy: Int = 1) -> Children {
        let policy = MailboxPolicy.bounded(100_000, .fail)
        return switch self {
        case .reactive: Children(name, Counter(), redundancy: redundancy)
        case .async: Children(name, redundancy: redundancy, body: counter)
        case .managedReactive: Children(name, Counter(), redundancy: redundancy).mailbox(policy)
        case .managedAsync: Children(name, redundancy: redundancy, body: counter).mailbox(policy)
        }
    }
}

/// Passes a number on to the next of a ring, one less each time, and tells a probe when it is zero.
struct Ring: Reactive {
    struct Message: Sendable {
        var left: Int
        var others: [ProcRef<Message>]
        var end: ProcRef<String>
    }
    let name: String

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        if message.left == 0 {
            message.end.tell(name)
            return
        }
        message.left -= 1
        let next = message.others.removeFirst()
        message.others.append(context.me)
        next.tell(message)
    }
}

/// A number that several processes read and write, each time for itself.
final class Shared: Sendable {
    private let locked = Locked(0)
    var value: Int {
        get { locked.withLock { $0 } }
        set { locked.withLock { $0 = newValue } }
    }
}

/// Traps when the index is out of range.
struct Indexer: Reactive {
    struct Message: Sendable {
        var index: Int
        var reply: Reply<Int>
    }

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        message.reply([1, 2, 3][message.index])
    }
}

extension Task where Success == Never, Failure == Never {
    /// Lets others run, then returns the value.
    static func yield<Value: Sendable>(returning value: @autoclosure @Sendable () -> Value) async -> Value {
        await yield()
        return value()
    }
}
