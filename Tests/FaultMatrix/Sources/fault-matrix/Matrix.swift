// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// A misdeed and where it is committed.
struct Case: CustomStringConvertible {
    let misdeed: Misdeed
    let place: Place
    var description: String { "\(misdeed.rawValue)/\(place.rawValue)" }

    static let all = Place.allCases.flatMap { place in Misdeed.allCases.map { Case(misdeed: $0, place: place) } }

    /// Cases by name: `index/handler`, or all of a kind (`index`), or all of a place (`handler`).
    static func named(_ name: String) -> [Case] {
        all.filter { name == "\($0)" || name == $0.misdeed.rawValue || name == $0.place.rawValue }
    }
}

/// Plays cases, and looks after each at the trap's process, at the others, and at the threads.
struct Matrix {
    let system: BastionSystem
    private let bystander: ProcRef<Bystander.Message>
    private let threads: Int

    init(_ pool: WorkerPool) async {
        system = BastionSystem(name: "matrix", executor: pool)
        bystander = system.spawn(Bystander())
        // Its workers with their heirs, the timer's, the stall watch's and the reaper's.
        threads = 2 * pool.workerCount + 3
        await UsedContinuation.shared.use()
    }

    /// Prints one line for each; true if all went as they must.
    func run(_ cases: [Case], _ behaviours: [Behaviour]) async -> Bool {
        var failures = 0
        for each in cases where await !isWell("\(each)", { await complaints(about: each) }) { failures += 1 }
        for each in behaviours {
            let isWell = await isWell("\(each)") { await each.complaints(in: system, threads: threads) }
            failures += isWell ? 0 : 1
        }
        say("\(cases.count + behaviours.count - failures) ok, \(failures) failed")
        return failures == 0
    }

    private func isWell(_ name: String, _ look: () async -> [String]) async -> Bool {
        Watchdog.start(name, seconds: 30)
        let complaints = await look()
        Watchdog.stop()
        say(complaints.isEmpty ? "ok \(name)" : "FAILED \(name): \(complaints.joined(separator: "; "))")
        return complaints.isEmpty
    }

    private func complaints(about each: Case) async -> [String] {
        var complaints: [String] = []
        let before = Containment.contained
        for number in 0..<8 { bystander.tell(.number(number)) }
        for outcome in await each.place.play(each.misdeed, in: system) {
            if let complaint = outcome.complaint { complaints.append(complaint) }
            // Nobody is told of the traps that end no process.
            if each.place == .exitHook || each.place == .stateDeinit { continue }
            guard let report = outcome.report else {
                complaints.append("it did not end by a trap")
                continue
            }
            if report.process != outcome.process {
                complaints.append("\(report.process) is blamed, it was \(outcome.process)")
            }
            if report.kind != each.misdeed.kind {
                complaints.append("it is called \(report.kind) (\(report.message ?? "no message"))")
            }
            if report.backtrace.isEmpty { complaints.append("there is no backtrace") }
        }
        let contained = Containment.contained - before
        if contained != each.place.traps { complaints.append("\(contained) traps were contained") }
        for number in 8..<16 { bystander.tell(.number(number)) }
        do {
            let answer = try await bystander.ask(within: .seconds(20)) { .take($0) }
            if answer != Array(0..<16) { complaints.append("the bystander got \(answer)") }
        } catch {
            complaints.append("the bystander does not answer: \(error)")
        }
        if await (try? system.executor.spawn { opaque(7) }.outcome().get()) != 7 {
            complaints.append("nothing runs any more")
        }
        if Threads.blockingWait(forLasting: threads) == nil {
            complaints.append("there are \(Threads.names()), not \(threads)")
        }
        return complaints
    }
}

/// An innocent process: keeps what it gets until it is asked for it.
struct Bystander: Reactive {
    enum Message: Sendable {
        case number(Int)
        case take(Reply<[Int]>)
    }
    private var numbers: [Int] = []

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .number(let number): numbers.append(number)
        case .take(let reply):
            reply(numbers)
            numbers = []
        }
    }
}
