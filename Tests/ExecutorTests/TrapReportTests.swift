// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Foundation
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// What a contained trap tells, to people and to machines.
@Suite struct TrapReportTests {
    @Test func aReportNamesWhoAndWhatAndWhere() async throws {
        let pool = try WorkerPool(workers: 1)
        let before = wallClockSeconds()
        let handle = pool.spawn(ProcStack(name: "cart")) { Misdeed.index.commit() }
        let report = try #require(await handle.handle.exit().trapReport)
        #expect(report.name == "cart")
        #expect(report.path == nil)
        #expect(report.process == handle.id)
        #expect(report.signal == SIGILL)
        #expect((before...before + 60).contains(report.time.components.seconds))
        let frames = report.frames()
        #expect(frames.contains { $0.function?.contains("Misdeed") ?? false }, "\(frames)")
        #expect(report.text().hasPrefix("cart\(handle.id) trapped: "))
        #expect(report.text().contains("Misdeed"))
        await pool.shutDownElsewhere()
    }

    @Test func aReactiveProcessNamesTheTypeOfItsMessages() async throws {
        struct Order: Sendable {}
        struct Till: ReactiveBody {
            mutating func receive(_ message: consuming Order, on proc: LightProc) { Misdeed.index.commit() }
        }
        let pool = try WorkerPool(workers: 1)
        let proc = LightProc.reactive(Till(), on: pool)
        _ = proc.push(MessageNode.make(Order()))
        let report = try #require(await exit(of: proc).trapReport)
        #expect(report.messageType == "Order")
        await pool.shutDownElsewhere()
    }

    /// One of messages of any type says itself of which type the message in hand is; what an incarnation before had in hand does
    /// not count.
    @Test func aProcessOfMessagesOfAnyTypeNamesTheTypeOfTheMessageInHand() async throws {
        let pool = try WorkerPool(workers: 1)
        let isBroken = Locked(false)
        let reasons = Locked<[ExitReason]>([])
        let over = AsyncGate()
        let proc = LightProc.reactive(on: pool) {
            if isBroken.withLock({ $0 }) { Misdeed.index.commit() }
            return Doer()
        }
        proc.prepare(name: nil, stack: nil, observer: nil, shutdownTime: .seconds(60))
        final class Again: ProcObserver {
            let ended: @Sendable (LightProc, ExitReason) -> Void
            init(_ ended: @escaping @Sendable (LightProc, ExitReason) -> Void) { self.ended = ended }
            func procEnded(_ proc: LightProc, reason: ExitReason) { ended(proc, reason) }
            func procDiscarded(messageOf type: Any.Type, by proc: LightProc) {}
        }
        let observer = Again { proc, reason in
            let count = reasons.withLock { reasons in
                reasons.append(reason)
                return reasons.count
            }
            isBroken.withLock { $0 = count == 1 }
            if count < 3 { return proc.restart() }
            proc.close()
            over.open()
        }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(60))
        proc.restart()
        proc.tell { proc in
            proc.handles([String].self)
            Misdeed.index.commit()
        }
        proc.tell { _ in Misdeed.index.commit() }
        await over.wait()
        #expect(reasons.withLock { $0.map { $0.trapReport?.messageType } } == ["Array<String>", "Deed", "Deed"])
        await pool.shutDownElsewhere()
    }

    @Test(
        arguments: [
            (nil, "null"), ("plain", "\"plain\""), ("a \"b\" \\ c", "\"a \\\"b\\\" \\\\ c\""),
            ("two\nlines\t\u{1}", "\"two\\nlines\\t\\u0001\""), ("Größe", "\"Größe\""),
        ] as [(String?, String)]
    )
    func textIsQuotedForJSON(text: String?, json: String) { #expect(TrapReport.json(text) == json) }

    @Test func aReportWithoutFramesIsOneLineOfJSON() {
        let report = TrapReport(
            kind: .stackOverflow,
            message: nil,
            signal: 11,
            process: ProcID(rawValue: 7),
            name: "a \"b\"",
            path: "/shop/a",
            time: .milliseconds(1_500),
            backtrace: []
        )
        #expect(
            report.json() == """
                {"kind":"stack overflow","message":null,"signal":11,"process":"<0.7>","name":"a \\"b\\"",\
                "path":"/shop/a","messageType":null,"time":1.500000,"frames":[]}
                """
        )
    }

    /// Two addresses where nothing is.
    @Test func aReportWithFramesOfWhichNothingIsKnown() {
        let report = TrapReport(
            kind: .trap,
            message: nil,
            signal: 4,
            process: ProcID(rawValue: 7),
            name: nil,
            messageType: String.self,
            backtrace: [0x10, 0x2a]
        )
        #expect(
            report.json() == """
                {"kind":"trap","message":null,"signal":4,"process":"<0.7>","name":null,"path":null,\
                "messageType":"String","time":0.000000,"frames":[\
                {"address":"0x10","function":null,"object":null,"file":null,"line":null,"inlined":false},\
                {"address":"0x2a","function":null,"object":null,"file":null,"line":null,"inlined":false}]}
                """
        )
        #expect(report.text() == "<0.7> trapped: trap, handling String\n  0 ?\n  1 ?")
        #expect(report.place == nil)
    }

    @Test func framesAreTheSameInJSON() async throws {
        let pool = try WorkerPool(workers: 1)
        let handle = pool.spawn(ProcStack(name: "a \"cart\"")) { Misdeed.index.commit() }
        let report = try #require(await handle.handle.exit().trapReport)
        let parsed = try JSONSerialization.jsonObject(with: Data(report.json().utf8))
        let object = try #require(parsed as? [String: Any])
        #expect(object["kind"] as? String == report.kind.rawValue)
        #expect(object["message"] as? String == report.message)
        #expect(object["name"] as? String == "a \"cart\"")
        #expect(object["process"] as? String == handle.id.description)
        let listed = try #require(object["frames"] as? [[String: Any]])
        let frames = report.frames()
        #expect(!frames.isEmpty)
        #expect(listed.count == frames.count)
        for (fields, frame) in zip(listed, frames) {
            #expect(Set(fields.keys) == ["address", "function", "object", "file", "line", "inlined"])
            #expect(fields["address"] as? String == "0x" + String(frame.address, radix: 16))
            #expect(fields["function"] as? String == frame.function)
            #expect(fields["object"] as? String == frame.object)
            #expect(fields["file"] as? String == frame.file)
            #expect(fields["line"] as? Int == frame.line)
            #expect(fields["inlined"] as? Bool == frame.isInlined)
        }
        #expect(frames.contains { $0.function?.contains("Misdeed.commit") ?? false }, "\(frames)")
        await pool.shutDownElsewhere()
    }

    #if DEBUG
    /// Of a real trap in code of this file, where the system has libdw.
    @Test(.enabled(if: dlopen("libdw.so.1", RTLD_NOW) != nil))
    func fileAndLineOfATrapAreTold() async throws {
        let pool = try WorkerPool(workers: 1)
        let handle = pool.spawn { Self.trap(at: 7) }
        let report = try #require(await handle.handle.exit().trapReport)
        #expect(report.place == "TrapReportTests.swift:\(Self.line)")
        let frame = try #require(report.frames().first { $0.file?.hasSuffix("TrapReportTests.swift") ?? false })
        #expect(frame.line == Self.line)
        #expect(frame.function?.contains("TrapReportTests.(trap in ") == true, "\(frame)")
        #expect(report.text().contains("TrapReportTests.swift:\(Self.line)\n"), "\(report.text())")
        #expect(report.json().contains("TrapReportTests.swift\",\"line\":\(Self.line),"), "\(report.json())")
        await pool.shutDownElsewhere()
    }

    private static let line = #line + 3
    @inline(never)
    private static func trap(at index: Int) -> Int {
        opaque([1, 2, 3])[opaque(index)]
    }
    #endif

    private func wallClockSeconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec)
    }
}
