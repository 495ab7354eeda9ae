// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor

/// The queues of the blocking pool and its lists of sleepers, without threads.
@Suite struct BlockingQueuesTests {
    private static func queues(nodes: Int = 1, most: Int = 4) -> BlockingQueues<Int> {
        BlockingQueues(nodes: nodes, limits: .init(maximumThreads: most))
    }

    private func job(_ next: BlockingQueues<Int>.Next) -> Int? { if case .job(let job) = next { job } else { nil } }
    private func isSleep(_ next: BlockingQueues<Int>.Next) -> Bool { if case .sleep = next { true } else { false } }
    private func isStop(_ next: BlockingQueues<Int>.Next) -> Bool { if case .stop = next { true } else { false } }

    @Test func jobsComeOutInOrderAndSleepersAreWoken() {
        let queues = Ref(Self.queues())
        #expect(queues.change { $0.add(1, to: 0, at: .zero) } == .hire)
        queues.value.hire(for: 0)
        // The thread that is on its way takes one of them.
        #expect(queues.change { $0.add(2, to: 0, at: .zero) } == .watch)
        let next1 = queues.value.next(for: 7, of: 0, at: .zero)
        #expect(job(next1) == 1)
        queues.value.finish(on: 0)
        let next2 = queues.value.next(for: 7, of: 0, at: .zero)
        #expect(job(next2) == 2)
        queues.value.finish(on: 0)
        let next3 = queues.value.next(for: 7, of: 0, at: .zero)
        #expect(isSleep(next3))
        #expect(queues.change { $0.add(3, to: 0, at: .zero) } == .wake(7))
        #expect(queues.change { $0.add(4, to: 0, at: .zero) } == .watch)
        // Taken off the list: it may not leave.
        #expect(!queues.change { $0.leave(7, of: 0) })
        let next4 = queues.value.next(for: 7, of: 0, at: .zero)
        #expect(job(next4) == 3)
        #expect((queues.value.threads, queues.value.running, queues.value.queued, queues.value.peak) == (1, 1, 1, 1))
    }

    @Test func whoIsIdleForTooLongLeaves() {
        let queues = Ref(Self.queues())
        _ = queues.value.add(1, to: 0, at: .zero)
        queues.value.hire(for: 0)
        _ = queues.value.next(for: 1, of: 0, at: .zero)
        queues.value.finish(on: 0)
        let next5 = queues.value.next(for: 1, of: 0, at: .zero)
        #expect(isSleep(next5))
        #expect(queues.change { $0.leave(1, of: 0) })
        #expect(queues.value.threads == 0)
        #expect(queues.change { $0.add(2, to: 0, at: .zero) } == .hire)
    }

    @Test func nodesKeepToThemselvesWhileThereIsRoom() {
        let queues = Ref(Self.queues(nodes: 2))
        #expect(queues.change { $0.add(1, to: 0, at: .zero) } == .hire)
        queues.value.hire(for: 0)
        #expect(queues.change { $0.add(2, to: 1, at: .zero) } == .hire)
        queues.value.hire(for: 1)
        let next6 = queues.value.next(for: 1, of: 1, at: .zero)
        #expect(job(next6) == 2)
        queues.value.finish(on: 1)
        let next7 = queues.value.next(for: 1, of: 1, at: .seconds(1))
        #expect(isSleep(next7))
        let next8 = queues.value.next(for: 0, of: 0, at: .seconds(1))
        #expect(job(next8) == 1)
    }

    @Test func atTheBoundIdleThreadsHelpAnotherNode() {
        let queues = Ref(Self.queues(nodes: 2, most: 1))
        _ = queues.value.add(1, to: 0, at: .zero)
        queues.value.hire(for: 0)
        _ = queues.value.next(for: 5, of: 0, at: .zero)
        queues.value.finish(on: 0)
        let next9 = queues.value.next(for: 5, of: 0, at: .zero)
        #expect(isSleep(next9))
        #expect(queues.change { $0.add(2, to: 1, at: .zero) } == .watch)
        // Not at once: in due time.
        let early = queues.value.look(at: .zero) { _ in true }
        #expect(early == .init(nextLook: .milliseconds(1)))
        let due = queues.value.look(at: .milliseconds(1)) { _ in true }
        #expect(due == .init(wakes: [5]))
        let next10 = queues.value.next(for: 5, of: 0, at: .milliseconds(1))
        #expect(job(next10) == 2)
    }

    @Test func whenStoppedTheRestIsDone() {
        let queues = Ref(Self.queues(nodes: 2))
        for node in 0..<2 {
            _ = queues.value.add(node, to: node, at: .zero)
            queues.value.hire(for: node)
        }
        #expect(queues.change { $0.stop() } == [])
        let next11 = queues.value.next(for: 0, of: 0, at: .zero)
        #expect(job(next11) == 0)
        queues.value.finish(on: 0)
        let next12 = queues.value.next(for: 0, of: 0, at: .zero)
        #expect(job(next12) == 1)
        queues.value.finish(on: 0)
        let next13 = queues.value.next(for: 0, of: 0, at: .zero)
        #expect(isStop(next13))
        queues.value.stopped(on: 0)
        let next14 = queues.value.next(for: 1, of: 1, at: .zero)
        #expect(isStop(next14))
        queues.value.stopped(on: 1)
        #expect(queues.change { $0.add(9, to: 1, at: .zero) } == .nothing)
        #expect(queues.value.abandonedNodes == [1])
        queues.value.resume()
        #expect(queues.change { $0.add(10, to: 1, at: .zero) } == .hire)
    }

    @Test func whoTrapsIsReplacedIfSomethingWaits() {
        let queues = Ref(Self.queues(most: 1))
        _ = queues.value.add(1, to: 0, at: .zero)
        queues.value.hire(for: 0)
        _ = queues.value.next(for: 1, of: 0, at: .zero)
        #expect(queues.change { $0.add(2, to: 0, at: .zero) } == .watch)
        #expect(queues.change { $0.trapped(on: 0, at: .zero) })
        queues.value.hire(for: 0)
        _ = queues.value.next(for: 2, of: 0, at: .zero)
        #expect(!queues.change { $0.trapped(on: 0, at: .zero) })
        #expect((queues.value.threads, queues.value.running) == (0, 0))
    }

    /// Threads that act at random: no job is lost or done twice, the bound holds, and while something waits and nobody is
    /// on the way, a look is due or there is no room.
    @Test func randomSequences() {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SplitMix64(seed: seed)
        for _ in 0..<200 {
            let (nodes, most) = (Int.random(in: 1...3, using: &random), Int.random(in: 1...6, using: &random))
            let queues = Ref(Self.queues(nodes: nodes, most: most))
            enum Doing { case starting, working, asleep, woken }
            var threads: [Int: (node: Int, doing: Doing)] = [:]
            var (now, added, done, nextThread, isWatched) = (Duration.zero, 0, Set<Int>(), 0, false)
            func hire(_ node: Int) {
                threads[nextThread] = (node, .starting)
                nextThread += 1
            }
            func act(_ thread: Int) {
                guard let (node, doing) = threads[thread] else { return }
                switch doing {
                case .starting, .woken, .working:
                    if doing == .working { queues.value.finish(on: node) }
                    switch queues.value.next(for: thread, of: node, at: now) {
                    case .job(let job):
                        #expect(done.insert(job).inserted, "seed \(seed)")
                        threads[thread]?.doing = .working
                    case .sleep:
                        threads[thread]?.doing = .asleep
                        if queues.value.queued > 0 { isWatched = true }
                    case .stop: Issue.record("seed \(seed): nobody stopped")
                    }
                case .asleep:
                    if Int.random(in: 0..<8, using: &random) == 0 {
                        #expect(queues.change { $0.leave(thread, of: node) }, "seed \(seed)")
                        threads[thread] = nil
                        if queues.value.isBehind(at: now) { isWatched = true }
                    }
                }
            }
            func look() {
                let result = queues.value.look(at: now) { _ in Bool.random(using: &random) }
                isWatched = result.nextLook != nil
                for (node, count) in result.hires { for _ in 0..<count { hire(node) } }
                for thread in result.wakes {
                    #expect(threads[thread]?.doing == .asleep, "seed \(seed)")
                    threads[thread]?.doing = .woken
                }
            }
            for _ in 0..<300 {
                now += .microseconds(Int64.random(in: 0...500, using: &random))
                switch Int.random(in: 0..<4, using: &random) {
                case 0:
                    let node = Int.random(in: 0..<nodes, using: &random)
                    switch queues.value.add(added, to: node, at: now) {
                    case .wake(let thread):
                        #expect(threads[thread]?.doing == .asleep, "seed \(seed)")
                        threads[thread]?.doing = .woken
                    case .hire:
                        queues.value.hire(for: node)
                        hire(node)
                    case .watch: isWatched = true
                    case .nothing: break
                    }
                    added += 1
                case 1: if isWatched { look() }
                default: if let thread = threads.keys.randomElement(using: &random) { act(thread) }
                }
                #expect(queues.value.threads == threads.count && queues.value.threads <= most, "seed \(seed)")
                #expect(queues.value.sleeperCount == threads.values.count { $0.doing == .asleep }, "seed \(seed)")
                #expect(queues.value.running == threads.values.count { $0.doing == .working }, "seed \(seed)")
                #expect(queues.value.queued == added - done.count, "seed \(seed)")
                if queues.value.isBehind(at: now), !isWatched { #expect(queues.value.threads == most, "seed \(seed)") }
            }
            // In the end everything is done: with looks only while they are due, and threads that do what they do.
            for _ in 0..<10_000 where done.count < added {
                now += .milliseconds(1)
                if isWatched { look() }
                for thread in threads.keys where threads[thread]?.doing != .asleep { act(thread) }
            }
            #expect(done.count == added, "seed \(seed)")
        }
    }
}
