// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Supervision
import Testing

@testable import Fort

/// A gauge by reference: what is expected of it may change it.
private final class Gauge {
    private var gauge = PressureGauge()
    var pressure: MemoryPressure { gauge.pressure }
    func read(_ reading: MemoryReading, at time: Duration, triggerShare: Double? = nil) -> MemoryPressure {
        gauge.read(reading, at: time, triggerShare: triggerShare)
    }
}

@Suite struct PressureGaugeTests {
    typealias Level = MemoryPressure.Level

    private static func reading(
        ofMax: Double? = nil,
        ofHigh: Double? = nil,
        some: Double = 0,
        full: Double = 0,
        _ events: (inout MemoryEventCounts) -> Void = { _ in }
    ) -> MemoryReading {
        var reading = MemoryReading()
        (reading.shareOfMax, reading.shareOfHigh) = (ofMax, ofHigh)
        events(&reading.events)
        reading.stall = StallFigures("some avg10=\(some * 100) total=0\nfull avg10=\(full * 100) total=0\n")
        return reading
    }

    @Test(arguments: [
        (reading(), Level.none), (reading(ofMax: 0.84), .none), (reading(ofMax: 0.86), .some),
        (reading(ofMax: 0.96), .critical),
        (reading(ofHigh: 0.89), .none), (reading(ofHigh: 0.91), .some), (reading(ofHigh: 1.01), .critical),
        (reading(ofMax: 0.5, ofHigh: 0.95), .some), (reading(some: 0.09), .none), (reading(some: 0.11), .some),
        (reading(some: 0.41), .critical), (reading(full: 0.01), .none), (reading(full: 0.03), .some),
        (reading(full: 0.11), .critical),
    ])
    func aReadingReachesItsLevel(_ reading: MemoryReading, _ expected: Level) {
        let gauge = Gauge()
        #expect(gauge.read(reading, at: .zero).level == expected)
    }

    @Test(arguments: [
        ("low", 0.1, Level.some), ("high", 0.1, .none), ("high", 0.76, .some), ("max", 0.1, .none),
        ("max", 0.76, .some),
        ("oom", 0.1, .critical), ("oom_kill", 0.1, .critical), ("oom_group_kill", 0.1, .critical),
    ])
    func eventsCountWhenTheyAreNew(_ event: String, _ share: Double, _ expected: Level) {
        let event: (inout MemoryEventCounts) -> Void = { $0 = MemoryEventCounts("\(event) 1\n") }
        let gauge = Gauge()
        // What was there before the watch began is nobody's news.
        let gaugeOfLater = Gauge()
        #expect(gaugeOfLater.read(Self.reading(ofMax: share, event), at: .zero).level == .none)
        #expect(gauge.read(Self.reading(ofMax: share), at: .zero).level == .none)
        #expect(gauge.read(Self.reading(ofMax: share, event), at: .seconds(1)).level == expected)
    }

    @Test func killsAreCountedFromTheBeginning() {
        let gauge = Gauge()
        #expect(gauge.read(Self.reading { $0.kills = 7 }, at: .zero).kills == 0)
        #expect(gauge.read(Self.reading { $0.kills = 9 }, at: .seconds(1)).kills == 2)
        // Another group, that counts anew.
        #expect(gauge.read(Self.reading { $0.kills = 0 }, at: .seconds(2)).kills == 0)
    }

    @Test func theLevelRisesAtOnceAndFallsStepByStep() {
        let gauge = Gauge()
        func level(_ share: Double, _ second: Int) -> Level {
            gauge.read(Self.reading(ofMax: share), at: .seconds(second)).level
        }
        #expect(level(0.5, 0) == .none)
        #expect(level(0.96, 1) == .critical)
        // Near what holds it.
        #expect(level(0.86, 10) == .critical)
        #expect(level(0.84, 11) == .critical)
        #expect(level(0.84, 15) == .critical)
        // A moment's relapse, and it counts anew.
        #expect(level(0.86, 15) == .critical)
        #expect(level(0.84, 16) == .critical)
        #expect(level(0.84, 20) == .critical)
        #expect(level(0.84, 21) == .some)
        // 75 % hold it.
        #expect(level(0.76, 40) == .some)
        #expect(level(0.1, 41) == .some)
        #expect(level(0.1, 45) == .some)
        #expect(level(0.1, 46) == .none)
    }

    private static func totals(_ some: UInt64, average: Double = 0) -> MemoryReading {
        var reading = MemoryReading()
        reading.stall = StallFigures("some avg10=\(average * 100) total=\(some)\nfull avg10=0.00 total=0\n")
        return reading
    }

    @Test func waitingIsWhatCameSinceTheLastLook() {
        let gauge = Gauge()
        #expect(gauge.read(Self.totals(1_000_000), at: .zero).stalledShare == 0)
        // Too soon to tell.
        #expect(gauge.read(Self.totals(1_100_000), at: .milliseconds(400)).stalledShare == 0)
        #expect(gauge.read(Self.totals(1_250_000), at: .seconds(1)).stalledShare == 0.25)
        #expect(gauge.pressure.level == .some)
        // Long ago: the kernel's average.
        #expect(gauge.read(Self.totals(9_000_000, average: 0.03), at: .seconds(60)).stalledShare == 0.03)
        // Fewer than before: other files.
        #expect(gauge.read(Self.totals(5), at: .seconds(61)).stalledShare == 0)
        // The kernel's word, whatever the figures say.
        #expect(gauge.read(Self.totals(5), at: .seconds(62), triggerShare: 0.1).stalledShare == 0.1)
        #expect(gauge.read(MemoryReading(), at: .seconds(63)).stalledShare == nil)
    }

    /// Whatever comes: never below what a reading reaches, never more than one step down, and that when for 5 seconds nothing has reached the
    /// level; and all is well again when it was calm for long enough.
    @Test func randomReadingsKeepTheRules() {
        let seed = UInt64.random(in: 0 ... .max)
        print("SEED=\(seed)")
        var random = SplitMix64(seed: seed)
        for _ in 0..<300 {
            let gauge = Gauge()
            var (time, level, events) = (Duration.zero, Level.none, MemoryEventCounts())
            /// When a reading last reached the level, or the level fell.
            var held = Duration.zero
            var hasBegun = false
            func reading(_ share: Double) -> MemoryReading {
                var reading = MemoryReading()
                (reading.shareOfMax, reading.events) = (share, events)
                return reading
            }
            for _ in 0..<100 {
                time += .milliseconds(Int.random(in: 1...3000, using: &random))
                let isKilled = Int.random(in: 0..<20, using: &random) == 0
                if isKilled { events.kills += 1 }
                let share = Double.random(in: 0...1, using: &random).squareRoot()
                let reached: Level =
                    (isKilled && hasBegun) || share >= 0.95 ? .critical : share >= 0.85 ? .some : .none
                hasBegun = true
                let next = gauge.read(reading(share), at: time).level
                #expect(next >= reached)
                #expect(next.rawValue + 1 >= level.rawValue)
                if next < level { #expect(time - held >= PressureGauge.calm) }
                if next > level { #expect(next == reached) }
                if next < level || reached >= next { held = time }
                level = next
            }
            for _ in 0..<20 {
                time += .seconds(2)
                level = gauge.read(reading(0.1), at: time).level
            }
            #expect(level == .none)
        }
    }
}

@Suite struct LoadSheddingTests {
    @Test(arguments: [
        (MemoryPressure.Level.none, ProcPriority.low, false), (.none, .normal, false), (.none, .high, false),
        (.some, .low, true), (.some, .normal, false), (.some, .high, false),
        (.critical, .low, true), (.critical, .normal, true), (.critical, .high, false),
    ])
    func workIsRefusedByItsPriority(_ level: MemoryPressure.Level, _ priority: ProcPriority, _ expected: Bool) {
        #expect(LoadShedding(at: level).refuses(priority) == expected)
    }

    /// In a process of its own: what is published is the program's.
    @Test func whatIsPublishedIsWhatTheProgramGoesBy() async {
        await #expect(processExitsWith: .success) {
            precondition(Fort.memoryPressure == MemoryPressure.unknown && !Fort.shedsLoad(.low))
            var pressure = MemoryPressure.unknown
            pressure.level = .critical
            pressure.usedBytes = 460 << 20
            pressure.limitBytes = 512 << 20
            pressure.stalledShare = 0.125
            precondition(PressureBoard.publish(pressure))
            precondition(!PressureBoard.publish(pressure), "the level is the same")
            precondition(Fort.memoryPressure == pressure && Fort.memoryPressureLevel == .critical)
            precondition(Fort.shedsLoad() && !Fort.shedsLoad(.high))
            precondition("\(pressure)" == "critical: 460 of 512 MiB, stalled 13 %", "\(pressure)")
            precondition(PressureBoard.publish(.unknown) && !Fort.shedsLoad())
        }
    }
}

@Suite struct FortEventsTests {
    @Test func everyStreamGetsWhatHappensInOrder() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            let (first, second) = (Fort.events(), Fort.events(buffering: 2))
            Fort.tell(.leakBudgetNear(leaked: 3, budget: 4))
            Fort.tell(.leakBudgetReached(leaked: 4, budget: 4))
            Fort.tell(.replaced)
            var (all, last) = (first.makeAsyncIterator(), second.makeAsyncIterator())
            for _ in 0..<3 { report("\(await all.next().map { "\($0)" } ?? "none")") }
            report("\(await last.next().map { "\($0)" } ?? "none") \(second.lostEvents) \(first.lostEvents)")
            Fort.tell(.stopping(signal: nil))
            // Of the stop alone, in order.
            var late = Fort.events().makeAsyncIterator()
            for _ in 0..<2 { report("late: \(await late.next().map { "\($0)" } ?? "none")") }
        }
        let lines = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self).split(separator: "\n")
        #expect(
            lines == [
                "leakBudgetNear(leaked: 3, budget: 4)", "leakBudgetReached(leaked: 4, budget: 4)", "replaced",
                "leakBudgetReached(leaked: 4, budget: 4) 1 0", "late: replaced", "late: stopping(signal: nil)",
            ]
        )
    }

    struct Listens: FortProgram {
        func run(in context: Context) async throws {
            let events = Fort.events()
            signalThisProgram(SIGTERM)
            for await event in events {
                report("\(event)")
                break
            }
        }
    }

    @Test func aProgramThatIsStoppedSaysForWhat() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Listens.main()
        }
        #expect(
            String(decoding: result?.standardOutputContent ?? [], as: UTF8.self) == "stopping(signal: Optional(15))\n"
        )
    }

    struct AsksLate: FortProgram {
        func run(in context: Context) async throws {
            signalThisProgram(SIGTERM)
            await context.untilStopped()
            for await event in Fort.events() {
                report("\(event)")
                break
            }
        }
    }

    /// The signal may come while the program starts: whoever asks then would wait for ever.
    @Test(.timeLimit(.minutes(1)))
    func whoAsksDuringTheStopIsToldOfIt() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            AsksLate.main()
        }
        #expect(
            String(decoding: result?.standardOutputContent ?? [], as: UTF8.self) == "stopping(signal: Optional(15))\n"
        )
    }
}
