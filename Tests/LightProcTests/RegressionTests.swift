// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

/// Defects that were found and mended; each test failed once.
@Suite struct RegressionTests {
    @Test func askersOfAProcessThatIsDroppedWithoutAStartLearnIt() {
        let scheduler = HandScheduler()
        let record = Record<String>()
        let tally = Tracked.Tally()
        do {
            let proc = LightProc.async(on: scheduler) { _ in }
            proc.declareMessages(of: Tracked.self)
            proc.send(Tracked(in: tally), receipt: NotingReceipt(record))
        }
        #expect(record.events.count == 1)
        // In a process of its own.
        #expect(tally.live == 1)
        scheduler.drain()
        #expect(tally.live == 0)
    }

    @Test func whatOwnsNothingIsFreedOnTheSpot() async {
        let scheduler = HandScheduler()
        do {
            let (proc, handle) = LightProc.recoverable(on: scheduler) { 7 }
            proc.restart()
            scheduler.drain()
            #expect(handle.handle.proc.isClosed)
            let reactive = LightProc.reactive(Script(), on: scheduler)
            reactive.tell { $0.finish() }
            scheduler.drain()
            #expect(reactive.isClosed)
        }
        #expect(scheduler.readyCount == 0, "no process was made for it")
    }

    @Test(arguments: [
        ("App/main.swift:3: Fatal error: stack overflow in the parser", TrapKind.fatalError),
        ("App/main.swift:3: Precondition failed: an unowned reference", .preconditionFailure),
        ("Swift/Dictionary.swift:83: Fatal error: Dictionary literal contains duplicate keys", .duplicateKey),
        ("Swift/Array.swift:430: Fatal error: Array index is out of range", .indexOutOfRange),
        ("Fatal access conflict detected.", .exclusivityViolation),
    ])
    func wordsAreClassified(words: String, kind: TrapKind) { #expect(TrapKind(words: words) == kind) }

    @Test func aMessageAfterAKillStaysForTheNextIncarnation() {
        let scheduler = HandScheduler()
        let record = Record<String>()
        let observer = NotingObserver(record) { proc, _ in proc.restart() }
        let proc = LightProc.async(on: scheduler) { proc in
            let life = proc.state.incarnation
            while let node = await proc.receiveNode() {
                record.note("life \(life) got \(node.open(as: Int.self).message)")
            }
        }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
        proc.restart()
        scheduler.drain()
        proc.kill()
        proc.send(1)
        scheduler.drain()
        #expect(record.events == ["observer: killed", "life 2 got 1"])
    }
}
