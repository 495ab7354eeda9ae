// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Logging
import Runtime
import RuntimeServices
import ServiceLifecycle
import Synchronization

/// A tree of supervised children among other services of a `ServiceGroup`, which SIGTERM shuts down in order.
///
///     journal: open
///     100 quotients, 10 of 0 lost
///     meter: read one last time
///     journal: closed
@main
struct GroupOfServices {
    private static let questions = 110

    static func main() async throws {
        let journal = Journal()
        let tree = SupervisionService(bastion, name: "shop", intensity: .unlimited) {
            // A service as a child of the tree: on the way back it is told after those that started later.
            Children("meter", service: Meter(journal: journal))
            Children("divider", Divider(), redundancy: 4)
        }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [journal, tree, Customer(questions: questions, journal: journal)],
                gracefulShutdownSignals: [.sigterm],
                logger: Logger(label: "services") { _ in SwiftLogNoOpLogHandler() }
            )
        )
        try await group.run()
        let expected = ["journal: open", "100 quotients, 10 of 0 lost", "meter: read one last time", "journal: closed"]
        guard journal.lines == expected else { fatalError("wrong: \(journal.lines)") }
    }
}

/// Started first, and shut down last.
final class Journal: Service {
    private let kept = Mutex<[String]>([])
    var lines: [String] { kept.withLock { $0 } }

    func write(_ line: String) {
        print(line)
        kept.withLock { $0.append(line) }
    }

    func run() async throws {
        write("journal: open")
        try await gracefulShutdown()
        write("journal: closed")
    }
}

/// A service that knows nothing of supervisors.
struct Meter: Service {
    let journal: Journal
    func run() async throws {
        try await gracefulShutdown()
        journal.write("meter: read one last time")
    }
}

/// Divides 1000; a divisor of zero traps, and costs that answer.
struct Divider: Reactive {
    enum Message: Sendable { case divide(by: Int, Reply<Int>) }

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .divide(let divisor, let reply): reply(1000 / divisor)
        }
    }
}

/// Asks the tree, and ends the program as whoever runs it would.
struct Customer: Service {
    let questions: Int
    let journal: Journal

    func run() async throws {
        // The services of a group start side by side.
        while (try? bastion.supervisor(at: "/shop")) == nil { try await Task.sleep(for: .milliseconds(1)) }
        let dividers = try bastion.supervisor(at: "/shop").group("divider", of: Divider.Message.self)
        var right = 0
        var lost = 0
        for number in 0..<questions {
            let divisor = number % 11
            do {
                let quotient = try await dividers.ask { .divide(by: divisor, $0) }
                if quotient == 1000 / divisor { right += 1 }
            } catch {
                if error.code == .processEnded { lost += 1 }
            }
        }
        journal.write("\(right) quotients, \(lost) of 0 lost")
        kill(getpid(), SIGTERM)
        try await gracefulShutdown()
    }
}
