// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import ServerRoutes

@Suite struct StatisticsTests {
    @Test func statusFieldsAreFoundByTheirWholeName() {
        let fields = StatusFields(text: "Name:\tx\nVmRSSX:\t1 kB\nVmRSS:\t  5120 kB\nThreads:\t7\nOdd\nEmpty:\n")
        #expect(fields.number("VmRSS") == 5120)
        #expect(fields.number("Threads") == 7)
        #expect(fields.number("Name") == nil)
        #expect(fields.number("Empty") == nil)
        #expect(fields.number("Odd") == nil)
        #expect(fields.number("VmHWM") == nil)
    }

    @Test func currentProcessHasFigures() {
        let statistics = ProcessStatistics.current()
        #expect(statistics.processID == Int(getpid()))
        #expect(statistics.threads >= 1)
        #expect(statistics.residentBytes > 0)
        #expect(statistics.peakResidentBytes >= statistics.residentBytes / 2)
        #expect((0..<3600).contains(statistics.uptimeSeconds))
    }

    @Test func statisticsAreOneObject() {
        let response = Response.statistics(
            ServiceStatistics(requests: 3, trapsContained: 2, restarts: 1),
            of: ProcessStatistics(
                processID: 42,
                uptimeSeconds: 1.25,
                threads: 4,
                residentBytes: 1024,
                peakResidentBytes: 2048
            )
        )
        let body =
            #"{"pid":42,"uptime_seconds":1.25,"requests":3,"traps_contained":2,"restarts":1,"threads":4,"#
            + #""rss_bytes":1024,"peak_rss_bytes":2048}"#
        #expect(response == Response(status: 200, body: body + "\n"))
    }

    @Test(arguments: [
        (JSON.string("a\"b\\c\n\r\t\u{0}\u{1F}\u{7F}é"), #""a\"b\\c\n\r\t\u0000\u001f\u007fé""#),
        (JSON.object([]), "{}"),
        (JSON.object([("o", ["i": 1])]), #"{"o":{"i":1}}"#),
    ])
    func jsonIsEscaped(value: JSON, text: String) {
        #expect(value.text == text)
    }
}
