// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

/// What an incarnation that ends waits for: child tasks that may still complete, suspended or not.
@Suite struct ChildTaskTests {
    private let scheduler = HandScheduler()
    private let record: Record<String>
    private let observer: NotingObserver

    init() {
        record = Record()
        observer = NotingObserver(record)
    }

    private func process(_ main: @escaping @Sendable (LightProc) async throws -> Void) -> LightProc {
        let proc = LightProc.async(on: scheduler, main)
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
        return proc
    }

    /// The task that runs this, as the signal handler would see it.
    private static func currentTask() -> UInt {
        // safety: an unsafe current task is the pointer to it.
        withUnsafeCurrentTask { unsafeBitCast($0!, to: UInt.self) }
    }

    /// As the reaper, for a task that is suspended instead of dead.
    private func trap(_ task: UInt, of proc: LightProc, isOwnJob: Bool = false) throws {
        let executor = try #require(proc.side.content.withLock { $0.executor })
        proc.trapped(
            trapReport(of: proc),
            in: executor,
            isOwnJob: isOwnJob,
            task: UnsafeMutableRawPointer(bitPattern: task)
        )
    }

    enum Kind: CaseIterable, Sendable {
        case group, valueGroup, throwingGroup, discardingGroup, throwingDiscardingGroup, asyncLet, asyncLetValue

        /// Runs a child of this kind and awaits it.
        func run(_ child: @escaping @Sendable () async -> Void) async {
            switch self {
            case .group: await withTaskGroup(of: Void.self) { $0.addTask { await child() } }
            case .valueGroup:
                await withTaskGroup(of: String.self) { group in
                    group.addTask {
                        await child()
                        return "done"
                    }
                    #expect(await group.next() == "done")
                }
            case .throwingGroup:
                try? await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        await child()
                        throw Mishap()
                    }
                    try await group.waitForAll()
                }
            case .discardingGroup: await withDiscardingTaskGroup { $0.addTask { await child() } }
            case .throwingDiscardingGroup:
                try? await withThrowingDiscardingTaskGroup { group in
                    group.addTask {
                        await child()
                        throw Mishap()
                    }
                }
            case .asyncLet:
                async let nothing: Void = child()
                await nothing
            case .asyncLetValue:
                async let text = { () async -> String in
                    await child()
                    return "done"
                }()
                #expect(await text == "done")
            }
        }
    }

    @Test func theRuntimeIsKnown() {
        #expect(TaskHooks.countsChildren)
        #expect(TaskHooks.knowsOwners)
    }

    @Test(arguments: Kind.allCases)
    func aChildTaskCountsUntilItCompletes(kind: Kind) {
        let latch = Latch()
        let proc = process { [record] _ in
            await kind.run { await latch.wait() }
            record.note("main goes on")
        }
        proc.restart()
        scheduler.drain()
        #expect(proc.state.activations == 1, "nothing is queued, one child lives")
        latch.open()
        scheduler.drain()
        #expect(record.events == ["main goes on", "observer: normal"])
    }

    @Test(arguments: Kind.allCases)
    func afterAKillASuspendedChildHasTheShutdownTime(kind: Kind) {
        for returnsInTime in [true, false] {
            let (latch, record) = (Latch(), Record<String>())
            let observer = NotingObserver(record)
            let proc = LightProc.async(on: scheduler) { _ in
                await kind.run {
                    await latch.wait()
                    record.note("child, cancelled: \(Task.isCancelled)")
                }
                record.note("main")
            }
            proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
            proc.restart()
            scheduler.drain()
            proc.kill()
            scheduler.drain()
            #expect(record.events == [], "the child may still return")
            if !returnsInTime {
                scheduler.advance(by: .seconds(1))
                scheduler.drain()
            }
            latch.open()
            scheduler.drain()
            #expect(
                record.events
                    == (returnsInTime ? ["child, cancelled: true", "main", "observer: killed"] : ["observer: killed"])
            )
            #expect(scheduler.timerCount == 0)
        }
    }

    @Test(arguments: Kind.allCases)
    func withoutSiblingsATrapOfAChildSealsAtOnce(kind: Kind) throws {
        let task = Record<UInt>()
        let proc = process { _ in
            await kind.run {
                task.note(Self.currentTask())
                await Latch().wait()
            }
        }
        proc.restart()
        scheduler.drain()
        try trap(task.events[0], of: proc)
        // Nothing to wait for, so no time is taken.
        #expect(scheduler.timerCount == 0)
        scheduler.drain()
        #expect(record.events == ["observer: trap: index out of range"])
        #expect(scheduler.timerCount == 0)
        #expect(proc.lostTasks == 1, "the one that awaits it")
    }

    /// A child whose job is queued counts twice among the activations, but is one task.
    @Test func whatTheShutdownTimeCutsOffIsCountedByTasks() {
        let latch = Latch()
        let proc = process { _ in
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<3 { group.addTask { await latch.wait() } }
                group.addTask {}
            }
        }
        proc.restart()
        scheduler.drain()
        proc.kill()
        scheduler.drain()
        #expect(proc.lostTasks == 0)
        latch.open()
        #expect(proc.state.activations == 6)
        scheduler.advance(by: .seconds(1))
        scheduler.drain()
        #expect(record.events == ["observer: killed"])
        #expect(proc.lostTasks == 4, "three children, and the first task")
    }

    /// Nothing waits for it, but it is lost.
    @Test func aBodyThatIsSuspendedOnSomethingOutsideIsLostWithAKill() {
        let proc = process { _ in await Latch().wait() }
        proc.restart()
        scheduler.drain()
        proc.kill()
        scheduler.drain()
        #expect(record.events == ["observer: killed"])
        #expect(proc.lostTasks == 1)
    }

    @Test func whoReturnsIsNotLost() {
        let proc = process { _ in
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<3 { group.addTask {} }
            }
        }
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["observer: normal"])
        #expect(proc.lostTasks == 0)
    }

    @Test func aTrapOfTheFirstTaskWaitsForItsChildren() throws {
        let latch = Latch()
        let task = Record<UInt>()
        let proc = process { [record] _ in
            task.note(Self.currentTask())
            async let child: Void = {
                await latch.wait()
                record.note("child, cancelled: \(Task.isCancelled)")
            }()
            await child
            record.note("never")
        }
        proc.restart()
        scheduler.drain()
        try trap(task.events[0], of: proc)
        scheduler.drain()
        #expect(record.events == [])
        latch.open()
        // The child completes; what it wakes was lost with its thread.
        scheduler.step()
        scheduler.takeWithoutRunning()
        proc.jobReturned(1)
        scheduler.drain()
        #expect(record.events == ["child, cancelled: true", "observer: trap: index out of range"])
    }

    @Test func theSiblingsOfATrappedChildHaveTheShutdownTime() throws {
        for inTime in [2, 1, 0] {
            let latches = [Latch(), Latch()]
            let (task, record) = (Record<UInt>(), Record<String>())
            let observer = NotingObserver(record)
            let proc = LightProc.async(on: scheduler) { _ in
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        task.note(Self.currentTask())
                        await Latch().wait()
                    }
                    for (number, latch) in latches.enumerated() {
                        group.addTask {
                            await latch.wait()
                            record.note("sibling \(number)")
                        }
                    }
                }
            }
            proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
            proc.restart()
            scheduler.drain()
            #expect(proc.state.activations == 3)
            try trap(task.events[0], of: proc)
            scheduler.drain()
            for latch in latches.prefix(inTime) {
                #expect(!record.events.contains { $0.hasPrefix("observer") })
                latch.open()
                scheduler.drain()
            }
            if inTime < 2 {
                #expect(!record.events.contains { $0.hasPrefix("observer") })
                scheduler.advance(by: .seconds(1))
                scheduler.drain()
            }
            for latch in latches { latch.open() }
            scheduler.drain()
            #expect(
                record.events
                    == (0..<inTime).map { "sibling \($0)" } + ["observer: trap: index out of range"],
                "a sealed incarnation runs nothing"
            )
            #expect(proc.lostTasks == 1 + 2 - inTime, "the parent, and who did not return in time")
        }
    }

    /// The sibling awaits a child of its own, of every kind, which is suspended: both have the time. The one that traps is
    /// of every kind, too.
    @Test(arguments: Kind.allCases)
    func theChildrenOfASiblingHaveTheShutdownTimeToo(kind: Kind) throws {
        for returnsInTime in [true, false] {
            let latch = Latch()
            let (task, record) = (Record<UInt>(), Record<String>())
            let observer = NotingObserver(record)
            let proc = LightProc.async(on: scheduler) { _ in
                async let trapping: Void = kind.run {
                    task.note(Self.currentTask())
                    await Latch().wait()
                }
                async let sibling: Void = {
                    await kind.run {
                        await latch.wait()
                        record.note("nephew, cancelled: \(Task.isCancelled)")
                    }
                    record.note("sibling")
                }()
                _ = await (trapping, sibling)
                record.note("main")
            }
            proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
            proc.restart()
            scheduler.drain()
            #expect(proc.state.activations == 4, "two children, a child of each")
            try trap(task.events[0], of: proc)
            scheduler.drain()
            scheduler.advance(by: .milliseconds(999))
            scheduler.drain()
            #expect(record.events == [])
            if returnsInTime { latch.open() } else { scheduler.advance(by: .milliseconds(1)) }
            scheduler.drain()
            latch.open()
            scheduler.drain()
            let end = "observer: trap: index out of range"
            #expect(record.events == (returnsInTime ? ["nephew, cancelled: true", "sibling"] : []) + [end])
            #expect(
                proc.lostTasks == (returnsInTime ? 2 : 4),
                "who awaited the trapped one; who did not return in time"
            )
        }
    }

    /// Without a shutdown time nobody is waited for, and nothing of the process runs again.
    @Test(arguments: Kind.allCases)
    func withoutShutdownTimeSiblingsAreSealedAtOnce(kind: Kind) throws {
        let latch = Latch()
        let (task, record) = (Record<UInt>(), Record<String>())
        let observer = NotingObserver(record)
        let proc = LightProc.async(on: scheduler) { _ in
            async let trapping: Void = {
                task.note(Self.currentTask())
                await Latch().wait()
            }()
            await kind.run {
                await latch.wait()
                record.note("sibling")
            }
            await trapping
        }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .zero)
        proc.restart()
        scheduler.drain()
        try trap(task.events[0], of: proc)
        scheduler.drain()
        scheduler.advance(by: .zero)
        scheduler.drain()
        #expect(record.events == ["observer: trap: index out of range"])
        latch.open()
        scheduler.drain()
        #expect(record.events.count == 1, "\(record.events)")
    }

    /// main awaits a child that awaits a grandchild, which traps; then the child traps as well, on its other branch.
    @Test func whoAwaitsATrappedTaskIsNotWaitedForAndCountedOnce() throws {
        let latch = Latch()
        let tasks = Record<UInt>()
        let proc = process { [record] _ in
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    tasks.note(Self.currentTask())
                    await withTaskGroup(of: Void.self) { group in
                        for _ in 0..<2 {
                            group.addTask {
                                tasks.note(Self.currentTask())
                                await Latch().wait()
                            }
                        }
                    }
                }
                group.addTask {
                    await latch.wait()
                    record.note("aunt")
                }
            }
        }
        proc.restart()
        scheduler.drain()
        #expect(proc.state.activations == 4)
        try trap(tasks.events[1], of: proc)
        #expect(proc.state.activations == 3, "the other grandchild, the aunt, and the order to cancel")
        try trap(tasks.events[0], of: proc)
        #expect(proc.state.activations == 3, "known already")
        try trap(tasks.events[2], of: proc)
        #expect(proc.state.activations == 2)
        #expect(proc.lostTasks == 2, "the first task and the child")
        scheduler.drain()
        #expect(record.events == [])
        latch.open()
        scheduler.drain()
        #expect(record.events == ["aunt", "observer: trap: index out of range"])
    }

    @Test func manyChildrenComeAndGo() {
        let proc = process { [record] proc in
            for _ in 0..<50 {
                let sum = await withTaskGroup(of: Int.self) { group in
                    for number in 0..<20 {
                        group.addTask {
                            async let other = number
                            await Task.yield()
                            return await other
                        }
                    }
                    return await group.reduce(0, +)
                }
                if sum != 190 { record.note("\(sum)") }
            }
            record.note("\(proc.state.activations)")
        }
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["1", "observer: normal"], "the job that looks")
    }

    /// Not queued when they begin, so not seen: they belong to the process, but a suspended one is not waited for.
    @Test func immediateTasksAreNotCounted() {
        let latch = Latch()
        let proc = process { [record] _ in
            await withTaskGroup(of: Void.self) { group in
                group.addImmediateTask {
                    await latch.wait()
                    record.note("immediate")
                }
                record.note("main")
            }
        }
        proc.restart()
        scheduler.drain()
        #expect(proc.state.activations == 0)
        latch.open()
        scheduler.drain()
        #expect(record.events == ["main", "immediate", "observer: normal"])
    }

    /// An immediate task is not seen, but its children are, and so are the siblings of one that traps.
    @Test func whatIsCountedBesideAnImmediateTaskHasTheShutdownTime() throws {
        let latches = [Latch(), Latch()]
        let task = Record<UInt>()
        let proc = process { [record] _ in
            await withTaskGroup(of: Void.self) { group in
                group.addImmediateTask {
                    task.note(Self.currentTask())
                    await Latch().wait()
                }
                group.addTask {
                    await latches[0].wait()
                    record.note("sibling, cancelled: \(Task.isCancelled)")
                }
                group.addImmediateTask {
                    async let nephew: Void = {
                        await latches[1].wait()
                        record.note("nephew, cancelled: \(Task.isCancelled)")
                    }()
                    await nephew
                    record.note("immediate sibling")
                }
            }
        }
        proc.restart()
        scheduler.drain()
        try trap(task.events[0], of: proc)
        scheduler.drain()
        for latch in latches {
            #expect(!record.events.contains { $0.hasPrefix("observer") })
            latch.open()
            scheduler.drain()
        }
        #expect(
            record.events == [
                "sibling, cancelled: true", "nephew, cancelled: true", "immediate sibling",
                "observer: trap: index out of range",
            ]
        )
    }

    /// As docs/SEMANTICS.md says: alone with what is not seen, an incarnation is sealed at once.
    @Test func aSuspendedImmediateSiblingIsNotWaitedFor() throws {
        let latch = Latch()
        let task = Record<UInt>()
        let proc = process { [record] _ in
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    task.note(Self.currentTask())
                    await Latch().wait()
                }
                group.addImmediateTask {
                    await latch.wait()
                    record.note("immediate sibling")
                }
            }
        }
        proc.restart()
        scheduler.drain()
        try trap(task.events[0], of: proc)
        scheduler.drain()
        #expect(record.events == ["observer: trap: index out of range"])
        latch.open()
        scheduler.drain()
        #expect(record.events.count == 1, "a sealed incarnation runs nothing: \(record.events)")
    }

    @Test func childTasksHaveTheTaskLocalsAndTheExecutorOfTheirProcess() {
        enum Name { @TaskLocal static var name = "nobody" }
        let proc = process { [record] proc in
            @Sendable func look(_ from: String) {
                let isOurs = withUnsafeCurrentTask { task in
                    task?.unownedTaskExecutor
                        == proc.side.content.withLock { $0.executor?.asUnownedTaskExecutor() }
                }
                record.note("\(from): \(Name.name) \(isOurs)")
            }
            await Name.$name.withValue("somebody") {
                async let child: Void = look("async let")
                await child
                await withTaskGroup(of: Void.self) { $0.addTask { look("group") } }
            }
            look("main")
        }
        proc.restart()
        scheduler.drain()
        #expect(
            record.events == [
                "async let: somebody true", "group: somebody true", "main: nobody true", "observer: normal",
            ]
        )
    }

    @Test func killingTheProcessCancelsAllItsChildTasks() {
        let proc = process { [record] proc in
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<3 {
                    group.addTask {
                        async let inner: Void = { _ = await proc.receiveNode() }()
                        await inner
                        record.note("\(number) \(Task.isCancelled)")
                    }
                }
            }
        }
        proc.restart()
        scheduler.drain()
        #expect(record.events == [])
        proc.kill()
        scheduler.drain()
        #expect(record.events.sorted() == ["0 true", "1 true", "2 true", "observer: killed"])
        #expect(record.events.last == "observer: killed")
    }
}
