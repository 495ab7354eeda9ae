// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Testing

@testable import Supervision

/// A reactive process that tells a trace of the numbers it gets, and traps or fails if told to.
struct Taker: Reactive {
    enum Message: Sendable, Equatable {
        case number(Int)
        case question(Reply<Int>)
        case finish
        case fail

        static func == (lhs: Message, rhs: Message) -> Bool {
            if case .number(let mine) = lhs, case .number(let others) = rhs { mine == others } else { false }
        }
    }
    let name: String
    let trace: Trace
    var count = 0

    init(_ name: String, _ trace: Trace) {
        self.name = name
        self.trace = trace
    }

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
        switch message {
        case .number(let number):
            count += 1
            trace("\(name) \(number)")
        case .question(let reply): reply(count)
        case .finish: context.stop()
        case .fail: throw Failure()
        }
    }
}

/// Takes numbers only, and forgets them.
struct NumberTaker: Reactive {
    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {}
}

/// Runs a body on so many threads at once; returns when all have returned.
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
        let status = pthread_create(
            &thread,
            nil,
            { argument in
                let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                start.body(start.index)
                return nil
            },
            Unmanaged.passRetained(Start(index, body)).toOpaque()
        )
        precondition(status == 0, "cannot create a thread: \(status)")
        return thread
    }
    for thread in threads { pthread_join(thread, nil) }
}

/// What a throwing closure threw, if it is of a type.
func thrown<Problem: Error>(_ type: Problem.Type = Problem.self, _ body: () throws -> Void) -> Problem? {
    do {
        try body()
        return nil
    } catch {
        return error as? Problem
    }
}

func thrown<Problem: Error>(_ type: Problem.Type = Problem.self, _ body: () async throws -> Void) async -> Problem? {
    do {
        try await body()
        return nil
    } catch {
        return error as? Problem
    }
}
