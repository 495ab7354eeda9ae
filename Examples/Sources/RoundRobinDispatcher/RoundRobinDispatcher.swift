// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// Twenty jobs for five workers behind a dispatcher: each worker gets every fifth one.
@main
struct RoundRobinDispatcher: FortProgram {
    /// The first failure ends the program, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    func run(in context: Context) async throws {
        let tree = try context.supervise {
            Children("worker", Worker(), redundancy: 5).dispatcher("jobs")
        }
        // Who sends knows the name of the dispatcher, and no worker.
        for number in 0..<20 { try context.system.broadcast(Worker.Message.job(number), to: .group("jobs")) }

        var done: [[Int]] = []
        for worker in try tree.group("worker", of: Worker.Message.self).members {
            // The question comes behind the jobs that were sent before.
            let jobs = try await worker.ask { .whatWasDone($0) }
            print("\(worker): \(jobs)")
            done.append(jobs)
        }
        guard done == (0..<5).map({ [$0, $0 + 5, $0 + 10, $0 + 15] }) else { throw WrongResult(done: done) }

        // A name that no group has is an error, and the job is still in our hands.
        do {
            try context.system.broadcast(Worker.Message.job(21), to: .group("games"))
            throw WrongResult(done: done)
        } catch let error as DispatcherError<Worker.Message> {
            print(error)
        }
    }
}

struct Worker: Reactive {
    enum Message: Sendable {
        case job(Int)
        case whatWasDone(Reply<[Int]>)
    }
    var done: [Int] = []

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .job(let number): done.append(number)
        case .whatWasDone(let reply): reply(done)
        }
    }
}

struct WrongResult: Error {
    let done: [[Int]]
}
