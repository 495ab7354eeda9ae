// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Testing

@testable import Fort

/// What is left of programs that hang, and that do not stop as they should.
@Suite(
    .timeLimit(.minutes(5)),
    .enabled(if: !isSanitized, "sanitizers are slower than a second, and hold signals back")
)
struct GuardReportTests {
    @Test func aHangLeavesAReport() async throws {
        let stuck = try await Stuck(["BASTION_HANG_TIME": "3s"])
        _ = try await stuck.fixture.line(containing: "fort-fixture (\(stuck.program)) hung and was killed; report: ")
        let report = try #require(reports(in: stuck.directory).first)
        #expect(report.contains(#""pid":\#(stuck.program),"#) && report.contains(#""cause":"hang""#), "\(report)")
        #expect(report.contains(#""stage":"ready""#), "\(report)")
    }

    @Test func aSecondRequestToStopLeavesAReport() async throws {
        // Who stands in for the worker tells of the stop.
        let stuck = try await Stuck(["BASTION_HANG_TIME": "never", "BASTION_STOP_DEADLINE": "1h"], requests: 1)
        kill(stuck.fixture.pid, SIGTERM)
        _ = try await stuck.fixture.line(containing: "stopping")
        kill(stuck.fixture.pid, SIGTERM)
        let code = await stuck.fixture.exitCode()
        let words = await stuck.fixture.rest()
        #expect(code == 143, "\(words)")
        let report = try #require(reports(in: stuck.directory).first)
        #expect(report.contains(#""cause":"forced""#) && report.contains(#""exitCode":143"#), "\(report)")
        #expect(report.contains("a second request to stop, SIGTERM, has forced the end"), "\(report)")
    }

    /// The program itself sees to its deadline, whatever is stuck.
    @Test func aStopThatTakesTooLongLeavesAReport() async throws {
        let stuck = try await Stuck(["BASTION_HANG_TIME": "never", "BASTION_STOP_DEADLINE": "100ms"])
        kill(stuck.fixture.pid, SIGTERM)
        #expect(await stuck.fixture.exitCode() == 75)
        let report = try #require(reports(in: stuck.directory).first)
        #expect(report.contains(#""cause":"exit""#) && report.contains(#""exitCode":75"#), "\(report)")
        #expect(report.contains(#""lastWords":"the stop was not over after 100ms""#), "\(report)")
    }

    /// Where it does not, the guard does.
    @Test func whoDoesNotSeeToItsDeadlineIsKilledAndLeavesAReport() async throws {
        let stuck = try await Stuck(["BASTION_HANG_TIME": "never", "BASTION_STOP_DEADLINE": "100ms"])
        kill(stuck.program, SIGSTOP)
        kill(stuck.fixture.pid, SIGTERM)
        _ = try await stuck.fixture.line(containing: "guard: the program (\(stuck.program)) takes too long: killing it")
        #expect(await stuck.fixture.exitCode() == 137)
        let report = try #require(reports(in: stuck.directory).first)
        #expect(report.contains(#""cause":"forced""#) && report.contains(#""name":"SIGKILL""#), "\(report)")
    }

    /// Long before the stop would have to be over.
    @Test func aStopWhoseExecutorHangsEndsAtTheHangTime() async throws {
        // Not before it is told to stop, also on a machine that has much else to do.
        let stuck = try await Stuck(["BASTION_HANG_TIME": "15s", "BASTION_STOP_DEADLINE": "1h"])
        kill(stuck.fixture.pid, SIGTERM)
        _ = try await stuck.fixture.line(containing: "(\(stuck.program)) gives no sign of life: killing it")
        #expect(await stuck.fixture.exitCode() == 137)
        let report = try #require(reports(in: stuck.directory).first)
        #expect(report.contains(#""cause":"hang""#) && report.contains(#""stage":"stopping""#), "\(report)")
    }

    /// A program whose only worker is stuck, and, by a second request, who stands in for it; and a directory for its reports.
    private final class Stuck: Sendable {
        let directory: String
        let fixture: FixtureProcess
        let program: pid_t

        init(_ variables: [String: String], requests: Int = 2) async throws {
            directory = try temporaryDirectory()
            let own = ["BASTION_WORKERS": "1", "BASTION_REPORT_DIRECTORY": directory]
            fixture = try FixtureProcess(own.merging(variables) { $1 })
            let (port, program) = try await fixture.serving()
            self.program = program
            for _ in 1...requests { onThread { _ = FixtureProcess.ask(port, "stick") } }
            for _ in 1...requests { _ = try await fixture.line(containing: "sticking") }
        }

        deinit { removeDirectory(directory) }
    }
}
