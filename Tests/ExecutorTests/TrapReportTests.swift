// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
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
        await shutDown(pool)
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
        await shutDown(pool)
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

    private func wallClockSeconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec)
    }
}
