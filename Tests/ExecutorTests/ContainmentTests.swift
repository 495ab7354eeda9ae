// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Where in a process a trap happens.
enum Scene: String, CaseIterable, Codable, Sendable {
    case body
    case asyncLet
    case taskGroup
    case afterSuspension
    case actorMethod
    case handler
    case exitHook
    case blocking

    /// Runs a process that misbehaves here; returns the report of its end, and its id.
    func play(_ misdeed: Misdeed, on pool: WorkerPool) async -> (report: TrapReport?, id: ProcID) {
        switch self {
        case .body: return await ended(pool.spawn { misdeed.commit() })
        case .asyncLet:
            return await ended(
                pool.spawn {
                    async let child = misdeed.commit()
                    return await child
                }
            )
        case .taskGroup:
            return await ended(
                pool.spawn {
                    await withTaskGroup(of: Int.self) { group in
                        group.addTask { 1 }
                        group.addTask { misdeed.commit() }
                        return await group.reduce(0, +)
                    }
                }
            )
        case .afterSuspension:
            return await ended(
                pool.spawn {
                    let gate = AsyncGate()
                    pool.schedule(after: .microseconds(1)) { gate.open() }
                    await gate.wait()
                    return misdeed.commit()
                }
            )
        case .actorMethod:
            return await ended(
                pool.spawn {
                    let clerk = Clerk()
                    return await clerk.commit(misdeed)
                }
            )
        case .handler:
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.tell { _ in misdeed.commit() }
            return (await exit(of: proc).trapReport, proc.id)
        case .exitHook:
            // The hook's trap ends the hook: the process ends as it would have, and its other hooks run.
            let proc = LightProc.reactive(Doer(), on: pool)
            let before = Containment.contained
            let reason = await suspended { continuation in
                proc.onExit { continuation.resume(returning: $0) }
                proc.onExit { _ in misdeed.commit() }
                proc.tell { $0.finish() }
            }
            #expect(reason.description == "normal")
            #expect(Containment.contained == before + 1)
            return (nil, proc.id)
        case .blocking: return await ended(pool.spawnBlocking { misdeed.commit() })
        }
    }

    private func ended(_ handle: RecoverableHandle<Int>) async -> (TrapReport?, ProcID) {
        switch await handle.outcome() {
        case .finished: (nil, handle.id)
        case .failed(let reason): (reason.trapReport, handle.id)
        }
    }

    private actor Clerk {
        func commit(_ misdeed: Misdeed) -> Int { misdeed.commit() }
    }
}

/// A trap, of whatever kind and wherever in a process, ends that process and nothing else.
///
/// Each scene has a program to itself: what the Swift runtime says goes to one buffer for the whole program, so traps of
/// other tests at the same instant could exchange their words with these.
@Suite struct ContainmentTests {
    @Test(arguments: Scene.allCases)
    func everyKindOfTrapIsContained(scene: Scene) async {
        await #expect(processExitsWith: .success) { [scene] in
            let pool = try WorkerPool(workers: 2)
            let bystander = LightProc.reactive(Bystander(), on: pool)
            let threads = OurThreads.atRest(pool)
            #expect(OurThreads.blockingWait(forCount: threads), "\(OurThreads.names())")
            var sent = 0
            func send(_ count: Int) {
                for _ in 0..<count {
                    bystander.send(Bystander.Message.number(sent))
                    sent += 1
                }
            }
            for misdeed in Misdeed.allCases {
                send(50)
                let (report, id) = await scene.play(misdeed, on: pool)
                send(50)
                if scene != .exitHook {
                    guard let report else {
                        Issue.record("\(misdeed) in \(scene): no trap")
                        continue
                    }
                    #expect(report.process == id, "\(misdeed) in \(scene)")
                    #if DEBUG
                    #expect(report.kind == misdeed.kind, "\(misdeed) in \(scene): \(report.message ?? "")")
                    #endif
                    #expect(!report.backtrace.isEmpty)
                }
            }
            if scene == .blocking {
                // What cleans up after a trap in the blocking pool is a thread of that pool, which then is idle for a while;
                // the one that trapped last may still be about to end.
                #expect(
                    OurThreads.blockingWait(forCountIn: threads...threads + 2),
                    "\(OurThreads.names()), \(threads) before"
                )
            } else {
                #expect(OurThreads.blockingWait(forCount: threads), "\(OurThreads.names()), \(threads) before")
            }
            let (count, isInOrder) = await bystander.bystanderCount()
            #expect(count == sent)
            #expect(isInOrder)
            // Both workers still work, at the same time.
            let rendezvous = Rendezvous(2)
            let pair = (0..<2).map { _ in
                pool.spawn {
                    rendezvous.arrive()
                    rendezvous.everybody.blockingWait()
                }
            }
            for handle in pair { try await handle.outcome().get() }
            #expect(try await pool.spawnBlocking { "blocks" }.outcome().get() == "blocks")
            await pool.shutDownElsewhere()
            #expect(OurThreads.blockingWait(forCount: 0), "\(OurThreads.names())")
        }
    }

    /// `SCALE=10` runs ten times as many.
    @Test func aStormOfTrapsTouchesNoOtherProcess() async {
        await #expect(processExitsWith: .success) {
            let count = 2_000 * RandomRun.scale
            let pool = try WorkerPool(workers: 2)
            let threads = OurThreads.atRest(pool)
            #expect(OurThreads.blockingWait(forCount: threads), "\(OurThreads.names())")
            let bystanders = (0..<4).map { _ in LightProc.reactive(Bystander(), on: pool) }
            var random = SeededGenerator(seed: RandomRun.seed)
            // Few overflows of the stack: each takes as long as fifty others.
            let misdeeds =
                [Misdeed](repeating: .endlessRecursion, count: 1)
                + (0..<9).flatMap { _ in Misdeed.allCases.filter { $0 != .endlessRecursion } }
            var mostThreads = 0
            var sent = 0
            var remaining = count
            while remaining > 0 {
                let batch = min(remaining, 50)
                remaining -= batch
                var exits: [LightProc] = []
                for _ in 0..<batch {
                    let misdeed = misdeeds.randomElement(using: &random)!
                    if random.next() % 2 == 0 {
                        exits.append(pool.spawn { misdeed.commit() }.handle.proc)
                    } else {
                        let proc = LightProc.reactive(Doer(), on: pool)
                        proc.tell { _ in misdeed.commit() }
                        exits.append(proc)
                    }
                    for bystander in bystanders { bystander.send(Bystander.Message.number(sent)) }
                    sent += 1
                }
                for proc in exits {
                    let reason = await exit(of: proc)
                    #expect(reason.trapReport?.process == proc.id, "SEED=\(RandomRun.seed): \(reason)")
                }
                mostThreads = max(mostThreads, OurThreads.count)
            }
            #expect(Containment.contained == count)
            #expect(mostThreads <= threads + 4, "\(mostThreads) threads, \(threads) before")
            for bystander in bystanders {
                let (count, isInOrder) = await bystander.bystanderCount()
                #expect(count == sent)
                #expect(isInOrder)
            }
            #expect(OurThreads.blockingWait(forCount: threads), "\(OurThreads.names()), \(threads) before")
            await pool.shutDownElsewhere()
        }
    }

    @Test func theMessageInHandIsLostAndNoOther() async throws {
        let pool = try WorkerPool(workers: 2)
        let restarter = Restarter()
        let handled = Handled()
        let proc = LightProc.reactive(on: pool) { Doer() }
        proc.prepare(name: nil, stack: nil, observer: restarter, shutdownTime: .seconds(1))
        let done = AsyncGate()
        for number in 0..<300 {
            proc.tell { _ in
                if number % 100 == 50 { Misdeed.index.commit() }
                handled.add(number)
                if number == 299 { done.open() }
            }
        }
        proc.restart()
        await done.wait()
        #expect(handled.numbers == (0..<300).filter { $0 % 100 != 50 })
        #expect(proc.restarts == 3)
        #expect(restarter.reasons.map { $0.trapReport?.process } == [proc.id, proc.id, proc.id])
        await pool.shutDownElsewhere()
    }

    @Test func aWaiterOnAMutexThatATrappedProcessHeldDoesNotHang() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let shared = SharedMutex()
            let held = BlockingGate()
            let coming = BlockingGate()
            let holder = pool.spawn {
                shared.mutex.withLock { _ in
                    held.open()
                    coming.blockingWait()
                    Misdeed.index.commit()
                }
            }
            let waiter = pool.spawn {
                held.blockingWait()
                coming.open()
                shared.mutex.withLock { $0 += 1 }
            }
            #expect(await holder.handle.exit().trapReport?.process == holder.id)
            // It ends: with the lock or, where the kernel says that the owner is gone, by a trap of its own.
            let reason = await waiter.handle.exit()
            if case .trap(let report) = reason { #expect(report.process == waiter.id) }
            #expect(try await pool.spawn { 1 }.outcome().get() == 1)
            await pool.shutDownElsewhere()
        }
    }

    /// A worker that runs a job of one process drains an actor, and in it a job of another that traps.
    @Test func inASharedActorTheRightProcessIsBlamed() async throws {
        let pool = try WorkerPool(workers: 2)
        let clerk = SharedClerk()
        let inside = AsyncGate()
        let release = BlockingGate()
        let innocent = pool.spawn {
            await clerk.hold(inside, until: release)
            return "innocent"
        }
        await inside.wait()
        let asking = AsyncGate()
        let culprit = pool.spawn {
            asking.open()
            return await clerk.commit(.unwrapping)
        }
        // Its call waits in the actor once no job of it is left.
        await asking.wait()
        while culprit.handle.proc.state.activations > 0 { await Task.yield() }
        release.open()
        let reason = await culprit.handle.exit()
        #expect(reason.trapReport?.process == culprit.id)
        #expect(try await innocent.outcome().get() == "innocent")
        #expect(try await pool.spawn { 1 }.outcome().get() == 1)
        await pool.shutDownElsewhere()
    }

    @Test func aTrapInBeforeStartEndsTheIncarnation() async throws {
        let pool = try WorkerPool(workers: 2)
        for isReactive in [false, true] {
            let handled = Handled()
            var stack = ProcStack(name: "unlucky")
            stack.beforeStart = { Misdeed.fatal.commit() }
            stack.afterPanic = { reason in if reason.trapReport != nil { handled.add(1) } }
            let proc: LightProc =
                isReactive
                ? .reactive(on: pool) { Doer() }
                : .async(on: pool) { _ in handled.add(0) }
            let over = AsyncGate()
            proc.prepare(name: nil, stack: stack, observer: nil, shutdownTime: .seconds(1))
            let done = Restarter(limit: 0) { over.open() }
            proc.prepare(name: nil, stack: stack, observer: done, shutdownTime: .seconds(1))
            proc.restart()
            await over.wait()
            #expect(done.reasons.first?.trapReport?.name == "unlucky")
            #expect(handled.numbers == [1])
        }
        await pool.shutDownElsewhere()
    }

    @Test func aTrapInAfterCompleteOrAfterPanicDoesNotCallItAgain() async throws {
        let pool = try WorkerPool(workers: 2)
        for fails in [false, true] {
            let handled = Handled()
            var stack = ProcStack()
            stack.afterComplete = {
                handled.add(1)
                Misdeed.index.commit()
            }
            stack.afterPanic = { _ in
                handled.add(2)
                Misdeed.index.commit()
            }
            let over = AsyncGate()
            let observer = Restarter(limit: 0) { over.open() }
            let proc = LightProc.async(on: pool) { _ in if fails { throw Boom() } }
            proc.prepare(name: nil, stack: stack, observer: observer, shutdownTime: .seconds(1))
            proc.restart()
            await over.wait()
            #expect(handled.numbers == [fails ? 2 : 1])
            #expect(observer.reasons.count == 1)
            #expect(observer.reasons.first?.isFailure == fails)
        }
        await pool.shutDownElsewhere()
    }

    @Test func aTrapInTheDeinitOfALeftMessageLosesThatMessageOnly() async throws {
        final class Grenade: Sendable {
            let isLive: Bool
            let handled: Handled
            init(_ isLive: Bool, _ handled: Handled) {
                self.isLive = isLive
                self.handled = handled
            }
            deinit {
                if isLive { Misdeed.index.commit() }
                handled.add(1)
            }
        }
        let pool = try WorkerPool(workers: 2)
        let handled = Handled()
        let over = AsyncGate()
        let proc = LightProc.reactive(on: pool) { Doer() }
        for number in 0..<3 {
            let grenade = Grenade(number == 1, handled)
            proc.tell { _ in _ = grenade.isLive }
        }
        proc.tell { _ in }
        final class Last: Sendable {
            let gate: AsyncGate
            init(_ gate: AsyncGate) { self.gate = gate }
            deinit { gate.open() }
        }
        do {
            let last = Last(over)
            proc.tell { _ in _ = last.gate }
        }
        proc.close()
        await over.wait()
        #expect(handled.numbers == [1, 1])
        #expect(try await pool.spawn { 1 }.outcome().get() == 1)
        await pool.shutDownElsewhere()
    }
}

/// A lock of a user's program.
private final class SharedMutex: Sendable {
    let mutex = Mutex(0)
}

private actor SharedClerk {
    func hold(_ inside: AsyncGate, until release: BlockingGate) {
        inside.open()
        release.blockingWait()
    }
    func commit(_ misdeed: Misdeed) -> Int { misdeed.commit() }
}

/// Numbers in the order they were handled.
private final class Handled: Sendable {
    private let list = Locked<[Int]>([])
    var numbers: [Int] { list.withLock { $0 } }
    func add(_ number: Int) { list.withLock { $0.append(number) } }
}

/// An observer that starts the process again, up to a limit, and then closes it.
private final class Restarter: ProcObserver {
    private let list = Locked<[ExitReason]>([])
    private let limit: Int
    private let over: @Sendable () -> Void
    var reasons: [ExitReason] { list.withLock { $0 } }

    init(limit: Int = .max, over: @escaping @Sendable () -> Void = {}) {
        self.limit = limit
        self.over = over
    }

    func procEnded(_ proc: LightProc, reason: ExitReason) {
        list.withLock { $0.append(reason) }
        if proc.restarts < limit {
            proc.restart()
        } else {
            proc.close()
            over()
        }
    }

    func procDiscarded(messageOf type: Any.Type, by proc: LightProc) {}
}
