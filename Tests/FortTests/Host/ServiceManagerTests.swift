// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Supervision
import TestSupport
import Testing

@testable import Fort

@Suite struct ServiceNoticeTests {
    private func text(_ notice: ServiceNotice, room: Int = ServiceNotice.sizeLimit) -> String {
        withUnsafeTemporaryAllocation(byteCount: room, alignment: 1) { buffer in
            let count = notice.write(into: buffer)
            return String(decoding: buffer[..<count], as: UTF8.self)
        }
    }

    @Test(arguments: [
        (ServiceNotice(), ""),
        (ServiceNotice(stage: .ready), "READY=1"),
        (ServiceNotice(stage: .ready, status: "Serving"), "READY=1\nSTATUS=Serving"),
        (ServiceNotice(stage: .reloading(since: 0)), "RELOADING=1\nMONOTONIC_USEC=0"),
        (
            ServiceNotice(stage: .reloading(since: .max), status: ""),
            "RELOADING=1\nMONOTONIC_USEC=18446744073709551615\nSTATUS="
        ),
        (
            ServiceNotice(stage: .stopping, patience: 5_000_000, status: "Stopping"),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=5000000\nSTATUS=Stopping"
        ),
        (ServiceNotice(isAlive: true), "WATCHDOG=1"),
        (ServiceNotice(isAlive: true, mainPID: 10), "WATCHDOG=1\nMAINPID=10"),
        (ServiceNotice(mainPID: 1), "MAINPID=1"),
        (ServiceNotice(status: "one\nREADY=1\u{7f}\ttwo"), "STATUS=one READY=1  two"),
        (ServiceNotice(status: "über 日本"), "STATUS=über 日本"),
    ])
    func aNoticeSaysEachThingInALine(_ notice: ServiceNotice, _ expected: String) {
        #expect(text(notice) == expected)
    }

    @Test func aStatusWithoutRoomIsCutBetweenTwoCharacters() {
        for room in 0...40 {
            let written = text(ServiceNotice(stage: .ready, status: "ä日😀ä日😀ä日😀"), room: room)
            #expect(written.utf8.count <= room)
            #expect("READY=1\nSTATUS=ä日😀ä日😀ä日😀".hasPrefix(written))
            #expect(!written.unicodeScalars.contains("\u{fffd}"))
        }
        #expect(text(ServiceNotice(status: String(repeating: "x", count: 10_000))).utf8.count == 512)
    }

    @Test(arguments: ["", "@", "/", "relative", "vsock:2:1", "/" + String(repeating: "x", count: 107)])
    func whatIsNoAddressIsNone(_ name: String) { #expect(NotifySocket(name) == nil) }

    @Test func anAddressInTheAbstractNameSpaceIsReached() throws {
        let manager = PretendedManager("@bastion-abstract-\(getpid())")
        let socket = try #require(NotifySocket(manager.name))
        #expect(socket.send(ServiceNotice(stage: .ready, status: "here")))
        #expect(manager.blockingReceive() == "READY=1 STATUS=here")
        #expect(!socket.send(ServiceNotice()), "there is nothing to say")
        #expect(manager.received() == nil)
    }

    @Test func aPathIsReached() throws {
        let tree = PretendedTree()
        let manager = PretendedManager("\(tree.root)/notify")
        #expect(try #require(NotifySocket(manager.name)).send(ServiceNotice(isAlive: true)))
        #expect(manager.blockingReceive() == "WATCHDOG=1")
        // Somebody who is not there.
        #expect(try #require(NotifySocket("\(tree.root)/nobody")).send(ServiceNotice(isAlive: true)) == false)
    }

    @Test func aManagerThatTakesNothingKeepsNobodyWaiting() throws {
        let manager = PretendedManager("@bastion-full-\(getpid())")
        let socket = try #require(NotifySocket(manager.name))
        var sent = 0
        // Ends: the socket's queue is bounded, by net.unix.max_dgram_qlen.
        while socket.send(ServiceNotice(isAlive: true)) { sent += 1 }
        #expect(sent > 0)
        for _ in 0..<sent { #expect(manager.received() == "WATCHDOG=1") }
        #expect(manager.received() == nil)
    }

    @Test(
        arguments: [
            (nil, nil, nil), ("1000000", nil, Duration.seconds(1)), ("1000000", "7", .seconds(1)),
            ("1000000", "8", nil), ("1000000", "x", nil), ("0", "7", nil), ("-5", "7", nil), ("soon", "7", nil),
            (nil, "7", nil),
            ("1", nil, .microseconds(1)),
        ] as [(String?, String?, Duration?)]
    )
    func aWatchdogTimeIsForTheProcessThatIsMeant(_ microseconds: String?, _ pid: String?, _ expected: Duration?) {
        #expect(WatchdogTime.read(microseconds: microseconds, pid: pid, own: 7) == expected)
    }
}

/// Programs that a service manager has started.
@Suite struct UnderAServiceManagerTests {
    private func lines(_ result: ExitTest.Result?) -> [String] {
        String(decoding: result?.standardOutputContent ?? [], as: UTF8.self).split(separator: "\n").map(String.init)
    }

    struct Told: FortProgram {
        static let manager = PretendedManager()
        static var signalsReady: Bool { true }
        func run(in context: Context) async throws {
            // Enough turns of others for what is said too early.
            for _ in 0..<1000 { await context.yield() }
            report(Self.manager.received() ?? "nothing yet")
            context.ready()
            report(Self.manager.blockingReceive())
            signalThisProgram(SIGTERM)
            report(Self.manager.blockingReceive())
            await context.untilStopped()
            // It asks for more time as long as this body takes.
            report(Self.manager.blockingReceive())
            report(Self.manager.blockingReceive())
        }
    }

    @Test func theManagerIsToldWhenTheProgramServesAndWhenItStops() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            _ = Told.manager
            Told.main()
        }
        #expect(
            lines(result) == [
                "nothing yet", "READY=1 STATUS=Ready", "STOPPING=1 EXTEND_TIMEOUT_USEC=5000000 STATUS=Stopping",
                "EXTEND_TIMEOUT_USEC=5000000", "EXTEND_TIMEOUT_USEC=5000000",
            ]
        )
    }

    struct Quiet: FortProgram { func run(in context: Context) async throws {} }

    @Test func aReloadBeginsAtItsTimeAndEndsWithReady() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            let manager = PretendedManager()
            let options = FortOptions(of: Quiet.self)
            let before = MonotonicClock.now
            for stage: ProgramState.Stage in [.ready, .reloading, .ready, .stopping] {
                ServiceManager.tell(stage, options)
            }
            report(manager.blockingReceive())
            let words = manager.blockingReceive().split(separator: " ")
            let since = words.count > 1 ? Int64(words[1].dropFirst("MONOTONIC_USEC=".count)) ?? -1 : -1
            let isInTime = (before - .microseconds(1)...MonotonicClock.now).contains(.microseconds(since))
            report("\(words.first ?? "") \(words.last ?? "") \(isInTime ? "in time" : "\(words)")")
            report(manager.blockingReceive())
            report(manager.blockingReceive())
            report(manager.received() ?? "nothing more")
        }
        #expect(
            lines(result) == [
                "READY=1 STATUS=Ready", "RELOADING=1 STATUS=Reloading in time", "READY=1 STATUS=Ready",
                "STOPPING=1 EXTEND_TIMEOUT_USEC=5000000 STATUS=Stopping", "nothing more",
            ]
        )
    }

    struct Watched: FortProgram {
        static let manager = PretendedManager(toldAs: ["WATCHDOG_USEC": "20000", "WATCHDOG_PID": "\(getpid())"])
        static var workers: Int? { 1 }
        func run(in context: Context) async throws {
            var count = 0
            // Ends: signs of life come as long as this one awaits.
            while count < 5 {
                if Self.manager.received() == "WATCHDOG=1" { count += 1 }
                try await context.sleep(for: .milliseconds(1))
            }
            report("alive")
            // Stuck are the only worker, and whoever stands in for it.
            let (began, end, timers) = (PollGate(), PollGate(), PollGate())
            _ = context.system.executor.spawn {
                began.open()
                end.blockingWait()
            }
            began.blockingWait()
            while Self.manager.received() != nil {}
            // The heart's timer is called by the same thread, each 5 ms.
            tick(context.system.executor, 20, timers)
            timers.blockingWait()
            report(Self.manager.received() ?? "no sign of life")
            end.open()
            // The stand-in gets on.
            while Self.manager.blockingReceive() != "WATCHDOG=1" {}
            report("alive again")
        }
    }

    @Test func theManagerHearsNothingWhileAllWorkersAreStuck() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            _ = Watched.manager
            Watched.main()
        }
        #expect(lines(result) == ["alive", "no sign of life", "alive again"])
    }

    @Test func signsOfLifeOfAnotherProcessAreNotOurs() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            setenv("WATCHDOG_USEC", "1000", 1)
            setenv("WATCHDOG_PID", "1", 1)
            report("\(ServiceManager.watchdogTime.map { "\($0)" } ?? "none") \(ServiceManager.socket == nil)")
            // Without a manager all of it does nothing.
            ServiceManager.tellAlive()
            ServiceManager.tell(status: "x")
            ServiceManager.tell(mainPID: 5)
            ServiceManager.extendStop()
            Quiet.main()
        }
        #expect(lines(result) == ["none true"])
    }
}

/// Opens the gate after so many timers of 5 ms, one after the other.
private func tick(_ executor: any ProcExecutor, _ count: Int, _ gate: PollGate) {
    if count == 0 { return gate.open() }
    executor.schedule(after: .milliseconds(5)) { tick(executor, count - 1, gate) }
}
