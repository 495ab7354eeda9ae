// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import otp_conformance

@Suite struct ScenarioParserTests {
    private static let whole = """
        # A comment, and a line without words.

        scenario 7
        timed
        unordered
        0 sup root rest_for_one 3 5 any_significant
        1 child c1 permanent 1000 false
        1 sup s1 simple_one_for_one 0 1 never transient true
        2 child template temporary kill false slow=250
        1 child c2 transient infinity true stubborn
        events
        crash c1
        exit c1
        shutdown c1
        failstart c1 2
        terminate root s1
        restart root s1
        delete root c2
        start root child c3 temporary 0 false plain
        spawn s1 d1
        count s1
        spec root c1
        change root flags one_for_all 1 2 never
        change root child c1 transient kill false
        link c1 c2
        unlink c1 c2
        monitor c1 c2
        demonitor c1 c2
        sleep 100
        scenario 8
        0 sup root one_for_one 1 5 never
        events
        """

    @Test func everyLineOfTheFormatIsRead() throws {
        let scenarios = try ScenarioParser.scenarios(in: Self.whole + "\r\n")
        #expect(scenarios.map(\.name) == ["7", "8"])
        let first = scenarios[0]
        #expect(first.isTimed && first.isUnordered)
        #expect(
            first.flags
                == SupervisorFlags(
                    strategy: .restForOne,
                    intensity: 3,
                    period: .seconds(5),
                    autoShutdown: .anySignificant
                )
        )
        #expect(first.children.map(\.name) == ["c1", "s1", "c2"])
        guard case .supervisor("s1", let flags, let restart, let below) = first.children[1] else {
            Issue.record("not a supervisor: \(first.children[1])")
            return
        }
        #expect(flags.strategy == .simpleOneForOne)
        #expect(flags.intensity == 0)
        #expect(restart == RestartFlags(kind: .transient, isSignificant: true))
        let template = ChildSpec(
            name: "template",
            restart: RestartFlags(kind: .temporary, isSignificant: false),
            shutdown: .kill,
            manner: .slow(milliseconds: 250)
        )
        #expect(below == [.child(template)])
        let c2 = ChildSpec(
            name: "c2",
            restart: RestartFlags(kind: .transient, isSignificant: true),
            shutdown: .infinity,
            manner: .stubborn
        )
        #expect(first.children[2] == .child(c2))

        let c1 = ChildSpec(
            name: "c1",
            restart: RestartFlags(kind: .transient, isSignificant: false),
            shutdown: .kill,
            manner: .obeys
        )
        let c3 = ChildSpec(
            name: "c3",
            restart: RestartFlags(kind: .temporary, isSignificant: false),
            shutdown: .time(milliseconds: 0),
            manner: .plain
        )
        let changed = SupervisorFlags(strategy: .oneForAll, intensity: 1, period: .seconds(2), autoShutdown: .never)
        #expect(
            first.events.map(\.kind) == [
                .end(.crash, child: "c1"), .end(.exit, child: "c1"), .end(.shutdown, child: "c1"),
                .failStart(child: "c1", times: 2), .call(.terminate, supervisor: "root", child: "s1"),
                .call(.restart, supervisor: "root", child: "s1"), .call(.delete, supervisor: "root", child: "c2"),
                .start(supervisor: "root", c3), .spawn(supervisor: "s1", child: "d1"), .count(supervisor: "s1"),
                .spec(supervisor: "root", child: "c1"), .changeFlags(supervisor: "root", changed),
                .changeChild(supervisor: "root", c1), .bond(.link, child: "c1", other: "c2"),
                .bond(.unlink, child: "c1", other: "c2"), .bond(.monitor, child: "c1", other: "c2"),
                .bond(.demonitor, child: "c1", other: "c2"), .sleep(milliseconds: 100),
            ]
        )
        #expect(first.events[3].text == "failstart c1 2")
        #expect(!scenarios[1].isTimed && !scenarios[1].isUnordered)
        #expect(scenarios[1].events.isEmpty)
    }

    @Test func childrenStandBelowTheNearestSupervisorThatIsLessDeep() throws {
        let text = """
            scenario 1
            0 sup root one_for_one 1 5 never
            1 sup a one_for_one 1 5 never permanent false
            2 sup b one_for_one 1 5 never permanent false
            3 child c permanent 1 false
            2 child d permanent 1 false
            1 child e permanent 1 false
            events
            """
        let root = try #require(try ScenarioParser.scenarios(in: text).first)
        #expect(root.children.map(\.name) == ["a", "e"])
        guard case .supervisor(_, _, _, let below) = root.children[0], case .supervisor(_, _, _, let lowest) = below[0]
        else {
            Issue.record("not a supervisor")
            return
        }
        #expect(below.map(\.name) == ["b", "d"])
        #expect(lowest.map(\.name) == ["c"])
    }

    @Test(
        arguments: [
            ("scene 1", 1, "'scenario' should be here, not 'scene'"),
            ("scenario", 1, "a name is missing at the end"),
            ("scenario 1 2", 1, "'2' is one word too many"),
            ("scenario 1", 2, "the input ends where the root supervisor should be"),
            ("scenario 1\n1 sup root", 2, "'0' should be here, not '1'"),
            ("scenario 1\n0 sup top one_for_one 1 5 never", 2, "'root' should be here, not 'top'"),
            (
                "scenario 1\n0 sup root one_by_one 1 5 never", 2,
                "'one_by_one' is not a strategy: one_for_one, one_for_all, "
            ),
            ("scenario 1\n0 sup root one_for_one -1 5 never", 2, "'-1' is not an intensity"),
            ("scenario 1\n0 sup root one_for_one 1 0 never", 2, "'0' is not a period"),
            ("scenario 1\n0 sup root one_for_one 1 5 maybe", 2, "'maybe' is not an automatic shutdown"),
            ("scenario 1\n0 sup root one_for_one 1 5 never", 3, "the input ends where 'events' should be"),
        ]
    )
    func aBadHeadIsAnErrorOfItsLine(text: String, line: Int, what: String) {
        expectError(in: text, line, what)
    }

    @Test(
        arguments: [
            ("2 child c permanent 1 false", 4, "depth 2 cannot stand here; it is at most 1, at least 1"),
            ("0 child c permanent 1 false", 4, "depth 0 cannot stand here"),
            ("one child c permanent 1 false", 4, "'one' is not a depth"),
            ("1 worker c permanent 1 false", 4, "'worker' is neither child nor sup"),
            ("1 child c forever 1 false", 4, "'forever' is not a restart type: permanent, transient, temporary"),
            ("1 child c permanent soon false", 4, "'soon' is not a shutdown"),
            ("1 child c permanent -1 false", 4, "'-1' is not a shutdown"),
            ("1 child c permanent 1 perhaps", 4, "'perhaps' is not a significance"),
            ("1 child c permanent 1 false lazy", 4, "'lazy' is not a manner"),
            ("1 child c permanent 1 false slow=x", 4, "'slow=x' is not a manner"),
            ("1 child c permanent 1 false plain plain", 4, "'plain' is one word too many"),
            ("1 child c permanent 1 true", 4, "a permanent child cannot be significant"),
            ("1 child c transient 1 false\n1 child c transient 1 false", 5, "there are two of the name c"),
            ("1 child root transient 1 false", 4, "there are two of the name root"),
            (
                "1 sup s one_for_one 1 5 never permanent false\n2 child c transient 1 true", 5,
                "nothing is significant to a supervisor that never shuts itself down"
            ),
            (
                "1 sup s simple_one_for_one 1 5 never permanent false\n1 child c transient 1 false", 4,
                "simple_one_for_one has one child below it, the template"
            ),
        ]
    )
    func aBadTreeIsAnErrorOfItsLine(tree: String, line: Int, what: String) {
        expectError(in: "# tree\nscenario 1\n0 sup root one_for_one 1 5 any_significant\n\(tree)\nevents", line, what)
    }

    @Test(
        arguments: [
            ("explode c", "'explode' is no event"),
            ("crash", "a child is missing at the end"),
            ("crash c c", "'c' is one word too many"),
            ("failstart c some", "'some' is not a number of starts"),
            ("start root c", "'child' should be here, not 'c'"),
            ("change root mind", "'mind' is neither flags nor child"),
            ("sleep well", "'well' is not a time in milliseconds"),
            ("sleep 4294967296", "'4294967296' is not a time in milliseconds: a number from 0 to 4294967295"),
            ("link c", "another child is missing at the end"),
        ]
    )
    func aBadEventIsAnErrorOfItsLine(event: String, what: String) {
        expectError(in: "scenario 1\n0 sup root one_for_one 1 5 never\nevents\ncount root\n\(event)\n", 5, what)
    }

    private func expectError(in text: String, _ line: Int, _ what: String) {
        do {
            _ = try ScenarioParser.scenarios(in: text)
            Issue.record("this is no error: \(text)")
        } catch {
            #expect(error.line == line)
            #expect(error.what.hasPrefix(what), "\(error)")
        }
    }
}
