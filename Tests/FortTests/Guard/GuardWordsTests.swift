// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import Fort

/// What guard and program tell each other, and signs of life.
@Suite struct GuardWordsTests {
    @Test(arguments: [nil] + DeathCause.allCases, [nil, Duration.milliseconds(1500)])
    func ordersAreReadAsTheyWereWritten(_ cause: DeathCause?, _ watchdogTime: Duration?) {
        let predecessor = cause.map { GuardOrder.Predecessor(record: 7, status: 139, cause: $0) }
        let order = GuardOrder(
            parent: 12,
            control: 5,
            record: 6,
            isInit: cause == .exit,
            watchdogTime: watchdogTime,
            predecessor: predecessor
        )
        #expect(GuardOrder(order.text) == order)
    }

    @Test(arguments: [
        "", "1", "1:2:3", "1:-2:3:guard", "0:1:2:guard", "1:2:3:what", "1:2:3:guard:0", "1:2:3:guard:x",
        "1:2:3:guard:4:5",
        "1:2:3:guard:4:5:6:what", "1:2:3:guard:x:5:6:exit", "1:2:3:init:4:5:what",
        "1:2:3:guard:-4:5:exit", "99999999999:1:1:guard",
    ])
    func whatIsNoOrderIsNone(_ text: String) {
        #expect(GuardOrder(text) == nil)
    }

    @Test(arguments: [
        GuardMessage.stage(1), .replacement, .settled, .lacksSomething, .giveBack(name: "127.0.0.1:0"),
        .giveBack(name: ""),
        .listen(ListenRequest(name: "127.0.0.1:0", address: [2, 0, 0, 0, 127, 0, 0, 1], backlog: 4096)),
        .listen(ListenRequest(name: "", address: [], backlog: 65_535)),
    ])
    func messagesAreReadAsTheyWereWritten(_ message: GuardMessage) {
        #expect(GuardMessage(message.bytes) == message)
        #expect(message.bytes.count <= GuardMessage.byteLimit)
    }

    @Test(arguments: [[], [1], [1, 2, 3], [2, 2], [3], [3, 1, 1], [3, 0, 0, 9, 1], [5, 0], [9]] as [[UInt8]])
    func whatIsNoMessageIsNone(_ bytes: [UInt8]) {
        #expect(GuardMessage(bytes) == nil)
    }

    @Test func waitStatusesAreUnderstood() {
        #expect(ChildEnd(waitStatus: 0) == .exit(0))
        #expect(ChildEnd(waitStatus: 70 << 8) == .exit(70))
        #expect(ChildEnd(waitStatus: 11) == .signal(11))
        #expect(ChildEnd(waitStatus: 11 | 0x80) == .signal(11))
    }

    @Test func theGuardAnswersForAProgramThatLivesOrThatItLooksAfterItself() {
        var keepAlive = KeepAlive()
        let looks: [(pid: Int32?, beats: UInt64, isLookedAfter: Bool, isDue: Bool)] = [
            (1, 0, false, true),
            // Stuck before its executor begins.
            (1, 0, false, false), (1, 0, false, false),
            (1, 1, false, true), (1, 2, false, true), (1, 2, false, false), (1, 3, false, true),
            // It dies, and another one is started.
            (nil, 0, false, true), (nil, 0, false, true), (2, 0, false, true), (2, 0, false, false),
            (2, 1, true, true), (2, 1, true, true), (3, 1, false, true), (3, 1, false, false),
        ]
        for (number, look) in looks.enumerated() {
            let program = look.pid.map {
                KeepAlive.Program(pid: $0, beats: look.beats, isForeign: false, isLookedAfter: look.isLookedAfter)
            }
            #expect(keepAlive.isDue(program) == look.isDue, "look \(number)")
        }
    }

    /// A handover to a release whose record has another layout is no reason to end the service.
    @Test func theGuardAnswersForAProgramThatItCannotRead() throws {
        let record = try #require(ProcessRecord.unshared())
        defer { record.unmap() }
        #expect(!record.isForeign)
        record.begin()
        #expect(!record.isForeign && record.isValid)
        record.pointer.pointee.version += 1
        #expect(record.isForeign && record.beats == 0 && record.hangTime == nil)
        var keepAlive = KeepAlive()
        for _ in 1...3 {
            let program = KeepAlive.Program(pid: 1, beats: 0, isForeign: record.isForeign, isLookedAfter: false)
            let isDue = keepAlive.isDue(program)
            #expect(isDue)
        }
    }

    @Test func whoGivesNoSignOfLifeForTooLongHangs() {
        var watch = BeatWatch()
        let limit = Duration.seconds(10)
        let looks: [(beats: UInt64, hangTime: Duration?, second: Int, hangs: Bool)] = [
            (0, nil, 0, false), (0, limit, 100, false), (0, limit, 105, false), (0, limit, 109, false),
            (1, limit, 110, false),
            (1, limit, 115, false), (1, limit, 120, true), (2, limit, 121, false),
            // Nobody has looked for so long: whoever looks was stopped itself.
            (2, limit, 200, false), (2, limit, 205, false), (2, limit, 210, true),
        ]
        for look in looks {
            let hangs = watch.look(beats: look.beats, hangTime: look.hangTime, at: .seconds(look.second))
            #expect(hangs == look.hangs, "at \(look.second) s")
        }
    }
}
