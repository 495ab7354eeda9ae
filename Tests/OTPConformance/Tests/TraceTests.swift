// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import otp_conformance

/// Traces of scenarios that were written by hand, as OTP prints them.
@Suite struct TraceTests {
    private func trace(of text: String, seed: UInt64 = 1) throws -> [String] {
        let scenario = try #require(try ScenarioParser.scenarios(in: text).first)
        return TraceWriter<SupervisedWorld>.trace(of: scenario, seed: seed).split(separator: "\n").map(String.init)
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func aTreeFailsAndComesBackAsTheStrategySays(seed: UInt64) throws {
        let scenario = """
            scenario 1
            0 sup root rest_for_one 2 5 never
            1 child c1 permanent 1000 false
            1 child c2 transient 1000 false
            1 sup s3 one_for_one 1 5 never permanent false
            2 child c4 permanent kill false
            events
            failstart c2 1
            crash c2
            exit c2
            restart root c2
            crash c5
            crash c1
            """
        #expect(
            try trace(of: scenario, seed: seed) == [
                "scenario 1", "  start root", "  start c1", "  start c2", "  start s3", "  start c4",
                "  tree root[c1 c2 s3[c4]]",
                "event failstart c2 1", "  tree root[c1 c2 s3[c4]]",
                "event crash c2", "  exit c2 crash", "  startfail c2", "  start c2", "  start s3", "  start c4",
                "  tree root[c1 c2 s3[c4]]",
                "event exit c2", "  exit c2 normal", "  tree root[c1 c2:- s3[c4]]",
                "event restart root c2", "  result ok", "  start c2", "  tree root[c1 c2 s3[c4]]",
                "event crash c5", "  result no_such_child", "  tree root[c1 c2 s3[c4]]",
                "event crash c1", "  exit c1 crash", "  stop c2 shutdown", "  down root shutdown", "end",
            ]
        )
    }

    @Test func timesAreRoundedDownAndStopsOfDynamicChildrenSorted() throws {
        let scenario = """
            scenario 2
            timed
            0 sup root one_for_one 1 5 never
            1 sup pool simple_one_for_one 1 5 never permanent false
            2 child template temporary 1250 false stubborn
            1 child c1 permanent 1000 false slow=250
            events
            spawn pool d10
            spawn pool d9
            spawn pool d2
            terminate root pool
            """
        let lines = try trace(of: scenario)
        let stop = try #require(lines.firstIndex(of: "event terminate root pool"))
        #expect(
            lines[stop...] == [
                "event terminate root pool", "  result ok @1000", "  stop d10 shutdown @0", "  stop d2 shutdown @0",
                "  stop d9 shutdown @0", "  tree root[pool:- c1]", "event stop", "  stop c1 shutdown @0", "end",
            ]
        )
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func whoLivesIsToldOfTheEndsOfOthers(seed: UInt64) throws {
        let scenario = """
            scenario 3
            unordered
            0 sup root one_for_one 9 5 never
            1 child c1 permanent 1000 false
            1 child c2 permanent 1000 false plain
            1 child c3 permanent 1000 false
            events
            link c1 c2
            link c2 c3
            monitor c1 c3
            crash c3
            """
        let lines = try trace(of: scenario, seed: seed)
        let crash = try #require(lines.firstIndex(of: "event crash c3"))
        #expect(
            lines[crash...] == [
                "event crash c3", "  exit c3 crash", "  start c2", "  start c3", "  told c1 down c3 crash",
                "  told c1 exit c2 crash", "  tree root[c1 c2 c3]", "event stop", "  stop c3 shutdown",
                "  stop c1 shutdown", "end",
            ]
        )
    }
}
