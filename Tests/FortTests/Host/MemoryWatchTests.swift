// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Supervision
import Testing

@testable import Fort

@Suite struct MemoryFilesTests {
    @Test func eventsAreCountedByTheirNames() {
        let counts = MemoryEventCounts(
            "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\nsock_throttled 7\nnonsense\nhigh\n"
        )
        #expect(
            [counts.low, counts.high, counts.max, counts.oom, counts.kills, counts.groupKills] == [1, 2, 3, 4, 5, 6]
        )
        #expect(MemoryEventCounts("high x\nmax -1\n") == MemoryEventCounts())
    }

    @Test func waitingIsReadFromBothLines() {
        let figures = StallFigures(
            "some avg10=12.50 avg60=1.00 avg300=0.00 total=88964\nfull avg10=2.00 avg60=0.00 avg300=0.00 total=39990\n"
        )
        #expect(figures?.some == 0.125)
        #expect(figures?.full == 0.02)
        #expect(figures?.someTotal == 88964)
        #expect(figures?.fullTotal == 39990)
        #expect(StallFigures("some avg10=900.00 total=1\n")?.some == 1)
        #expect(StallFigures("some avg10=x total=y extra\n")?.someTotal == 0)
        for text in ["", "full avg10=1.00 total=1\n", "nothing\n"] { #expect(StallFigures(text) == nil) }
    }

    @Test func theGroupWithTheLeastRoomCounts() {
        let tree = PretendedTree()
        tree.makeGroups()
        let (inner, outer) = ("/sys/fs/cgroup/outer/inner", "/sys/fs/cgroup/outer")
        #expect(tree.files.groups == [inner, outer])
        #expect(!tree.files.hasLimits())
        #expect(tree.files.pressure == nil)
        var reading = tree.files.read()
        #expect(reading == MemoryReading())

        // What was not used lately is no use of memory.
        tree.write("4000000\n", to: "\(inner)/memory.max")
        tree.write("3000000\n", to: "\(inner)/memory.high")
        tree.write("2500000\n", to: "\(inner)/memory.current")
        tree.write("anon 1\ninactive_file 1000000\n", to: "\(inner)/memory.stat")
        reading = tree.files.read()
        #expect(tree.files.hasLimits())
        #expect(reading.used == 1_500_000)
        #expect(reading.limit == 3_000_000)
        #expect(reading.shareOfMax == 0.375)
        #expect(reading.shareOfHigh == 0.5)

        // Around it there is less room.
        tree.write("2000000\n", to: "\(outer)/memory.max")
        tree.write("1900000\n", to: "\(outer)/memory.current")
        reading = tree.files.read()
        #expect(reading.used == 1_900_000)
        #expect(reading.limit == 2_000_000)
        #expect(reading.shareOfMax == 0.95)
        #expect(reading.shareOfHigh == 0.5)

        // Of its own group all below, of the one around only what is its own.
        tree.write("low 0\nhigh 1\nmax 0\noom 0\noom_kill 2\n", to: "\(inner)/memory.events")
        tree.write("low 0\nhigh 9\nmax 0\noom 9\noom_kill 9\n", to: "\(outer)/memory.events")
        tree.write("low 0\nhigh 4\nmax 0\noom 0\noom_kill 0\n", to: "\(outer)/memory.events.local")
        reading = tree.files.read()
        #expect(reading.events.high == 5)
        #expect(reading.events.kills == 2)
        #expect(reading.events.oom == 0)
    }

    @Test func waitingIsThatOfTheGroupOrElseOfTheMachine() {
        let tree = PretendedTree()
        tree.makeGroups()
        tree.write("some avg10=50.00 avg60=0.00 avg300=0.00 total=5\n", to: "/proc/pressure/memory")
        #expect(tree.files.pressure == "/proc/pressure/memory")
        #expect(tree.files.read().stall?.some == 0.5)
        // Empty where it is switched off.
        tree.write("", to: "/sys/fs/cgroup/outer/inner/memory.pressure")
        #expect(tree.files.pressure == "/proc/pressure/memory")
        tree.write("some avg10=10.00 total=7\n", to: "/sys/fs/cgroup/outer/inner/memory.pressure")
        #expect(tree.files.read().stall?.some == 0.1)
    }

    @Test func whereThereIsNothingNothingIsWatched() {
        let tree = PretendedTree()
        #expect(tree.files.groups.isEmpty)
        #expect(tree.files.pressure == nil)
        #expect(tree.files.read() == MemoryReading())
        #expect(MemoryWatch(tree.files) { _ in } == nil)
    }

    /// This machine, whatever it has.
    @Test func theMachinesOwnFilesAreUnderstood() {
        let files = MemoryFiles(FileTree())
        let reading = files.read()
        print("groups \(files.groups), pressure \(files.pressure ?? "none"), \(reading)")
        #expect((reading.stall != nil) == (files.pressure != nil))
        if let limit = reading.limit { #expect(limit > 0 && (reading.used ?? -1) >= 0) }
        if files.hasLimits() { #expect(reading.shareOfMax != nil || reading.shareOfHigh != nil) }
    }
}

/// What a watch has told, for threads that wait for it.
private final class Told: Sendable {
    private let list = Locked<[MemoryPressure]>([])
    private let changes = FutexWord()

    func add(_ pressure: MemoryPressure) {
        list.withLock { $0.append(pressure) }
        changes.increment()
        changes.wake(.max)
    }

    /// Waits for one that comes after so many.
    func blockingWait(after count: Int = 0, _ isMeant: (MemoryPressure) -> Bool) -> MemoryPressure {
        while true {
            let seen = changes.value
            if let found = list.withLock({ $0.dropFirst(count).first(where: isMeant) }) { return found }
            changes.blockingWait(while: seen)
        }
    }
}

@Suite struct MemoryWatchTests {
    /// There is no limit and no PSI, so nothing is looked at until the kernel says that a file has changed.
    @Test func anEventIsSeenWhenItHappens() throws {
        let tree = PretendedTree()
        tree.makeGroups()
        let told = Told()
        let watch = try #require(MemoryWatch(tree.files) { told.add($0) })
        #expect(watch.start())
        #expect(told.blockingWait { _ in true }.level == .none)
        tree.write(
            "low 0\nhigh 0\nmax 0\noom 1\noom_kill 1\noom_group_kill 0\n",
            to: "/sys/fs/cgroup/outer/inner/memory.events"
        )
        let pressure = told.blockingWait(after: 1) { $0.level == .critical }
        #expect(pressure.kills == 1)
        watch.stop()
    }

    @Test func useNearTheLimitIsSeenBySomeLook() throws {
        let tree = PretendedTree()
        tree.makeGroups()
        tree.write("1000000\n", to: "/sys/fs/cgroup/outer/memory.max")
        tree.write("0500000\n", to: "/sys/fs/cgroup/outer/memory.current")
        let told = Told()
        let watch = try #require(MemoryWatch(tree.files) { told.add($0) })
        #expect(watch.start())
        #expect(told.blockingWait { _ in true }.level == .none)
        tree.write("0900000\n", to: "/sys/fs/cgroup/outer/memory.current")
        let pressure = told.blockingWait(after: 1) { $0.level == .some }
        #expect(pressure.usedBytes == 900_000)
        #expect(pressure.limitBytes == 1_000_000)
        watch.stop()
    }

    /// The trigger too, where the kernel gives one.
    @Test(.enabled(if: MemoryFiles(FileTree()).pressure != nil, "the kernel tells nothing of waiting for memory"))
    func thisMachineIsWatched() throws {
        let told = Told()
        let watch = try #require(MemoryWatch(MemoryFiles(FileTree())) { told.add($0) })
        #expect(watch.start())
        #expect(told.blockingWait { _ in true }.stalledShare != nil)
        watch.stop()
    }
}
