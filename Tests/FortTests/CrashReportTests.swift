// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc
import LightProc
import Supervision
import Testing

@testable import Fort

/// The parts of crash reports that decide nothing by clocks or disks.
@Suite struct CrashReportTests {
    // MARK: JSON

    @Test(arguments: [
        ("plain", "\"plain\""), ("", "\"\""), ("a\"b\\c/d", "\"a\\\"b\\\\c/d\""), ("\n\r\t", "\"\\n\\r\\t\""),
        ("\u{0}\u{1}\u{1f}\u{7f}", "\"\\u0000\\u0001\\u001f\\u007f\""), ("\u{2028}\u{2029}", "\"\\u2028\\u2029\""),
        ("Grüße 🙂 e\u{301}", "\"Grüße 🙂 e\u{301}\""), ("\r\n", "\"\\r\\n\""),
        (String(decoding: [0x61, 0xff, 0xc3, 0x62] as [UInt8], as: UTF8.self), "\"a\u{fffd}\u{fffd}b\""),
    ])
    func stringsAreEscaped(_ text: String, _ written: String) {
        #expect(Array(JSON.string(text).text.utf8) == Array(written.utf8))
    }

    @Test func aDocumentIsWrittenInOrder() {
        let document = JSON.object([
            ("b", .int(-7)), ("a", .array([.null, .bool(true), .bool(false), .thousandths(12_005), .thousandths(-3)])),
            ("k\"", .object([])), ("e", .array([])), ("x", .address(0xff00_0000_0000_0001)),
            ("n", .optional(nil as String?)), ("m", .optional(5)),
        ])
        #expect(
            document.text
                == #"{"b":-7,"a":[null,true,false,12.005,-0.003],"k\"":{},"e":[],"x":"0xff00000000000001","n":null,"m":5}"#
        )
    }

    // MARK: Times and names

    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"), (1_795_867_200_123, "2026-11-28T12:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"), (-5, "1970-01-01T00:00:00.000Z"),
        ] as [(Int64, String)]
    )
    func timesAreWrittenAsInISO8601(_ milliseconds: Int64, _ text: String) {
        let time = WallTime(nanoseconds: milliseconds * 1_000_000)
        #expect(time.text == text)
        #expect(time.fileText == text.replacing(":", with: "-"))
    }

    @Test func datesAreThoseOfTheCLibrary() {
        // Every day of 200 years.
        for day in 0..<73_050 {
            var (seconds, broken) = (time_t(day * 86_400), tm())
            gmtime_r(&seconds, &broken)
            let date = WallTime.date(ofDay: day)
            let expected = (Int(broken.tm_year) + 1900, Int(broken.tm_mon) + 1, Int(broken.tm_mday))
            if (date.year, date.month, date.day) != expected { Issue.record("\(date), not \(expected)") }
        }
    }

    @Test(arguments: [
        ("shop", "shop"), ("my-shop_2.0", "my-shop_2.0"), ("a b/c", "a_b_c"), ("", "program"), ("ü", "__"),
        (String(repeating: "x", count: 60), String(repeating: "x", count: 48)),
    ])
    func aProgramsNameFitsIntoAFiles(_ program: String, _ expected: String) {
        #expect(ReportName.fileName(of: program) == expected)
        for kind in ReportName.Kind.allCases {
            let name = ReportName(WallTime(nanoseconds: 1_795_867_200_123_456_789), program, 42, kind)
            #expect(name.stem == "2026-11-28T12-00-00.123Z-\(expected)-42-\(kind.rawValue)")
            for ending in ReportName.endings { #expect(ReportName(file: name.stem + ending) == name) }
        }
    }

    @Test(arguments: [
        "2026-11-28T12-00-00.123Z-shop-42-trap", "2026-11-28T12-00-00.123Z-shop-42-trap.jpg", "notes.txt",
        "2026-11-28T12-00-00.123Z-shop-42-other.json", "2026-11-28T12-00-00.123Z--1-trap.json",
        "2026-11-28T12-00-00.123Z-shop-x-trap.json", "2026-11-28T12-00-00.123Z-42-trap.json",
        "2026-11-28T12-00-00.123Z-shop-042-trap.json", "2026-11-28T12:00:00.123Z-shop-42-trap.json",
        "2026-11-28-shop-42-trap.json", "x2026-11-28T12-00-00.123Z-shop-42-trap.json", ".json", "",
        "2026-11-28T12-00-00.123Z-sh op-42-trap.json", ".2026-11-28T12-00-00.123Z-shop-42-trap.json.tmp",
    ])
    func whatIsNoReportIsTakenForNone(_ name: String) {
        #expect(ReportName(file: name) == nil)
    }

    @Test(arguments: [
        ("shop-42.dying", true), ("shop-42-1795867200123456789.dying", true), ("shop-42.json", false),
        ("shop.dying", false), ("shop-.dying", false), ("shop-x.dying", false), ("shopping-42.dying", false),
        ("shop-2-42-7.dying", false), (".shop-42.dying.tmp", false), ("shop-42.dying.tmp", false),
    ])
    func recordsAreFoundByTheirNames(_ name: String, _ isOne: Bool) {
        #expect(RecordFile.isRecord(name, of: "shop") == isOne)
    }

    // MARK: Rotation

    private func file(
        _ second: Int64,
        _ program: String = "shop",
        _ ending: String = ".json",
        _ bytes: Int = 10
    )
        -> (name: String, bytes: Int)
    {
        (ReportName(WallTime(nanoseconds: second * 1_000_000_000), program, 7, .trap).stem + ending, bytes)
    }

    @Test func theOldestReportsGoFirst() {
        let files = [file(3), file(1), file(2), file(1, "shop", ".txt"), file(0, "other"), ("notes.txt", 1 << 40)]
        func excess(_ count: Int, _ bytes: Int) -> [String] {
            ReportName.excess(of: files, program: "shop", limits: ReportLimits(count: count, bytes: bytes))
        }
        let first: [String] = [file(1).name, file(1, "shop", ".txt").name]
        let two: [String] = first + [file(2).name]
        #expect(excess(3, 1000) == [])
        #expect(excess(2, 1000) == first)
        #expect(excess(1, 1000) == two)
        #expect(excess(10, 40) == [])
        #expect(excess(10, 39) == first)
        #expect(excess(10, 19) == two)
        // The last one stays, however large.
        #expect(excess(0, 0) == two)
    }

    @Test func whatRotationLeavesIsWithinLimits() {
        let seed = UInt64(getenv("SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64.random(in: 0...9_999_999))
        print("SEED=\(seed) whatRotationLeavesIsWithinLimits")
        var state = seed
        func random(_ range: Range<Int>) -> Int {
            // Knuth's constants (MMIX).
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return range.lowerBound + Int(state >> 33) % range.count
        }
        for _ in 0..<500 {
            let limits = ReportLimits(count: random(0..<12), bytes: random(0..<400))
            var files: [String: Int] = [:]
            for _ in 0..<random(0..<30) {
                let new = file(
                    Int64(random(0..<20)),
                    ["shop", "other"][random(0..<2)],
                    ReportName.endings[random(0..<2)],
                    random(0..<50)
                )
                files[new.name] = new.bytes
            }
            let excess = Set(
                ReportName.excess(of: files.map { ($0.key, $0.value) }, program: "shop", limits: limits)
            )
            let ours = files.filter { ReportName(file: $0.key)?.program == "shop" }
            let kept = ours.filter { !excess.contains($0.key) }
            let reports = Set(kept.keys.compactMap { ReportName(file: $0) })
            #expect(excess.isSubset(of: ours.keys), "SEED=\(seed)")
            #expect(reports.count <= max(limits.count, 1), "SEED=\(seed)")
            let keptBytes = kept.values.reduce(0, +)
            let isSmall = keptBytes <= limits.bytes || reports.count <= 1
            #expect(isSmall, "SEED=\(seed)")
            // No half reports, and none that is older than one that went.
            let gone = Set(excess.compactMap { ReportName(file: $0) })
            #expect(gone.isDisjoint(with: reports), "SEED=\(seed)")
            if let oldest = reports.map(\.stem).min(), let youngest = gone.map(\.stem).max() {
                #expect(oldest > youngest, "SEED=\(seed)")
            }
            // No more went than had to.
            if let last = gone.max(by: { $0.stem < $1.stem }) {
                let bytes = ours.filter { ReportName(file: $0.key) == last }.values.reduce(0, +)
                let fits = reports.count + 1 <= limits.count && keptBytes + bytes <= limits.bytes
                #expect(!fits, "SEED=\(seed)")
            }
        }
    }

    // MARK: Orders

    @Test func anOrderIsReadAsItWasWritten() {
        for cause in DeathCause.allCases {
            for directory in ["/var/crash", "", "/odd:place/with spaces", "ü"] {
                let order = ReportOrder(
                    record: 7,
                    status: 139,
                    cause: cause,
                    restarts: 3,
                    limits: ReportLimits(count: 5, bytes: 6),
                    parent: 8,
                    directory: directory
                )
                #expect(ReportOrder(order.encoded) == order)
                #expect(Reporter.environment(for: order) == ["BASTION_INTERNAL_REPORT": order.encoded])
            }
        }
        #expect(ReportOrder("3:139:signal:0:100:16777216:8:/var/crash")?.status == 139)
    }

    @Test(arguments: [
        "", "3", "3:139:signal:0:100:16777216:8", "x:139:signal:0:100:1:8:/", "3:139:other:0:100:1:8:/",
        "-1:0:exit:0:1:1:8:/", "3:139:signal:-1:100:1:8:/", "3:139:signal:0:-1:1:8:/", "3:139:signal:0:1:x:8:/",
        "3:139:signal:0:1:1:x:/", "3:139:signal:0:1:1:0:/",
    ])
    func whatIsNoOrderIsRefused(_ text: String) {
        #expect(ReportOrder(text) == nil)
    }

    // MARK: Rates

    @Test func onlySoManyReportsASecondAreWritten() {
        var rate = ReportRate(limit: 2)
        func at(_ seconds: Double) -> Int? { rate.admit(at: WallTime(nanoseconds: Int64(seconds * 1e9))) }
        #expect(at(1.0) == 0)
        #expect(at(1.1) == 0)
        #expect(at(1.2) == nil)
        #expect(at(1.9) == nil)
        #expect(at(2.0) == 2)
        #expect(at(2.1) == 0)
        #expect(at(2.2) == nil)
        #expect(rate.untold == 1)
        rate.giveBack(3)
        #expect(at(5.0) == 5)
        // A clock that was put back.
        #expect(at(2.0) == 0)
    }

    // MARK: Summaries

    private static let life = LifeRecord(
        program: "shop",
        pid: 42,
        incarnation: 3,
        startTime: WallTime(nanoseconds: 0),
        stage: "ready",
        trapsContained: 1,
        bytesLeaked: 77,
        lastWords: nil,
        death: nil,
        modules: [],
        events: []
    )
    private static let death = LifeRecord.Death(
        signal: SIGSEGV,
        code: 1,
        address: 0x10,
        time: WallTime(nanoseconds: 2_500_000_000),
        thread: 9,
        threadName: "worker",
        process: "/shop/orders-3<0.7>",
        message: nil,
        frames: []
    )

    @Test(
        arguments: [
            (.signal, SIGSEGV, true, "died of SIGSEGV at 0x10 in /shop/orders-3<0.7>"),
            (.signal, SIGKILL, false, "was killed by SIGKILL"),
            (.signal, SIGABRT | 0x80, false, "died of SIGABRT"), (.signal, 40, false, "died of signal 40"),
            (.exit, 70 << 8, true, "ended with status 70"), (.hang, SIGKILL, false, "hung and was killed"),
            (.outOfMemory, SIGKILL, false, "was killed for want of memory"),
            (.forced, SIGKILL, false, "did not stop in time and was killed"),
            (.forced, 143 << 8, false, "was forced to end"),
            (.notReady, SIGKILL, false, "was not ready in time and was killed"),
            (.leakBudget, 0, false, "was replaced: its contained traps had leaked 77 bytes"),
            (.unknown, 0, false, "ended without a word: killed, or the machine went down"),
        ] as [(DeathCause, Int32, Bool, String)]
    )
    func aDeathIsSummedUpInOneLine(_ cause: DeathCause, _ status: Int32, _ isSeen: Bool, _ expected: String) {
        var life = Self.life
        if isSeen { life.death = Self.death }
        let death = DeathOfProgram(life, cause, status: status, found: WallTime(nanoseconds: 3_000_000_000))
        #expect(death.summary == expected)
        #expect(death.uptime == .milliseconds(isSeen ? 2500 : 3000))
        let predecessor = Predecessor(death)
        #expect(predecessor.summary == expected)
        switch cause {
        case .signal: #expect(predecessor.cause == .signal(status & 0x7f))
        case .exit: #expect(predecessor.cause == .exit(70))
        case .hang: #expect(predecessor.cause == .hang)
        case .outOfMemory: #expect(predecessor.cause == .outOfMemory)
        case .leakBudget: #expect(predecessor.cause == .leakBudget)
        case .forced: #expect(predecessor.cause == .forced)
        case .notReady: #expect(predecessor.cause == .notReady)
        case .unknown: #expect(predecessor.cause == .unknown)
        }
    }

    @Test func theFirstLineOfTheMessageIsInTheSummary() {
        var life = Self.life
        life.lastWords = "enough"
        #expect(DeathOfProgram(life, .exit, status: 0, found: .now).summary == "ended with status 0: enough")
        life.death = Self.death
        life.death?.message = "Fatal error: no\nmore"
        #expect(
            DeathOfProgram(life, .signal, status: SIGILL, found: .now).summary
                == "died of SIGILL in /shop/orders-3<0.7>: Fatal error: no"
        )
    }

    @Test(arguments: [
        ("/shop/orders-3", false), ("/shop/orders-63", false), ("/shop/orders-64", true),
        ("/shop/orders-1000000", true),
        ("/shop", false), ("/shop/eighty-six", false), ("/shop-80/till", false), ("", false),
    ])
    func startsOfTheManyAreNotNoted(_ path: String, _ isOne: Bool) {
        #expect(FlightNotes.isOneOfMany(path) == isOne)
    }

    struct Rude: Error, CustomStringConvertible {
        var description: String { fatalError("asked for its description") }
    }

    @Test func noErrorIsAskedForItsDescription() {
        #expect(FlightNotes.text(of: .error(Rude())) == "error: Rude")
        #expect(
            FlightNotes.text(of: .linked(ProcID(rawValue: 3), .error(Rude())))
                == "linked process <0.3> ended: error: Rude"
        )
        #expect(FlightNotes.text(of: .killed) == "killed")
    }
}
