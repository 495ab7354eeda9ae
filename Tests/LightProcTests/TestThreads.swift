// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import Synchronization

@testable import LightProc

/// Runs a closure on as many threads of its own and returns when all have ended.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    final class Start: Sendable {
        let index: Int
        let body: @Sendable (Int) -> Void
        init(_ index: Int, _ body: @escaping @Sendable (Int) -> Void) {
            self.index = index
            self.body = body
        }
    }
    let threads = (0..<count).map { index in
        var thread = pthread_t()
        let start = Unmanaged.passRetained(Start(index, body))
        let status = pthread_create(
            &thread,
            nil,
            { argument in
                let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                start.body(start.index)
                return nil
            },
            start.toOpaque()
        )
        precondition(status == 0, "cannot create a thread: \(status)")
        return thread
    }
    for thread in threads { pthread_join(thread, nil) }
}

/// Counts live objects of its kind, by `init` and `deinit`.
final class Tracked: Sendable {
    final class Tally: Sendable {
        let made = Atomic<Int>(0)
        let gone = Atomic<Int>(0)
        // ordering: sequentiallyConsistent here and below: tests are not in a hurry.
        var live: Int {
            made.load(ordering: .sequentiallyConsistent) - gone.load(ordering: .sequentiallyConsistent)
        }
    }
    let tally: Tally
    let value: Int

    init(_ value: Int = 0, in tally: Tally) {
        self.value = value
        self.tally = tally
        tally.made.add(1, ordering: .sequentiallyConsistent)
    }

    deinit { tally.gone.add(1, ordering: .sequentiallyConsistent) }
}

/// What happened, in order.
final class Record<Event: Sendable & Equatable>: Sendable {
    private let list = Locked<[Event]>([])
    var events: [Event] { list.withLock { $0 } }
    func note(_ event: Event) { list.withLock { $0.append(event) } }
}

/// A receipt that notes what it was told.
final class NotingReceipt: MessageReceipt, @unchecked Sendable {
    // Sendable: `record` is.
    let record: Record<String>
    init(_ record: Record<String>) { self.record = record }
    override func processEnded(_ reason: ExitReason) { record.note("ended: \(reason)") }
    override func refused(_ reason: ExitReason?) { record.note("refused") }
}
