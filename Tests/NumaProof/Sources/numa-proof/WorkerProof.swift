// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc

/// What workers do, and where.
struct WorkerProof {
    private let floor: Floor
    private let report: Report
    private var pool: WorkerPool { floor.pool }

    init(_ floor: Floor, _ report: Report) {
        self.floor = floor
        self.report = report
    }

    private var nodes: [Int] { Set(floor.seats.compactMap(\.node)).sorted() }
    private func seats(of node: Int) -> [Seat] { floor.seats.filter { $0.node == node } }

    /// Each worker runs on its processing unit, may run on no other, and does so on its own stack.
    func processingUnits() {
        struct Place: Sendable {
            let pu: Int?
            let affinity: [Int]?
            let stack: UInt
        }
        let holders = floor.blockingHoldAll()
        let memory = try? pool.memoryOfWorkers()
        for seat in floor.seats {
            let notes = Notes<Place>()
            holders[seat.index].blockingDo {
                var local = 0
                let stack = withUnsafeMutablePointer(to: &local) { UInt(bitPattern: $0) }
                notes.add(
                    Place(pu: ThreadPlacement.currentPU(), affinity: try? ThreadPlacement.affinity(), stack: stack)
                )
            }
            let place = notes.take()[0]
            let isOnStack = memory?[seat.index].stack.contains(place.stack) ?? false
            report.expect(
                place.pu == seat.osPU && place.affinity == [seat.osPU] && isOnStack,
                "pu \(seat.index)",
                "on CPU \(place.pu ?? -1), may run on \(place.affinity ?? []), on the stack of its seat: \(isOnStack)"
            )
        }
        for holder in holders { holder.letGo() }
    }

    /// All memory of each worker lies on its node, by the kernel's word: queues that were filled, nodes of messages that
    /// came from everywhere, and the node of a message that is made there.
    func memory(expecting node: (Seat) -> Int?) throws {
        let madeFirst = messages()
        traffic()
        let madeLater = messages()
        let holders = floor.blockingHoldAll()
        for worker in try pool.memoryOfWorkers() {
            let expected = node(floor.seats[worker.worker])
            var areas = [("stack", worker.stack), ("queues", worker.queues), ("node's queues", worker.nodeQueues)]
            // The allocator's where all memory is equally near.
            if worker.node != nil { areas.append(("message nodes", worker.messageNodes)) }
            let isThere = areas.allSatisfy { $0.1.pagesByNode.keys.map { Optional($0) } == [expected] }
            let pages = areas.map { "\($0.0) \($0.1.pagesByNode)" }.joined(separator: ", ")
            report.expect(isThere, "memory \(worker.worker)", "pages by node: \(pages)")
            let (first, later) = (madeFirst[worker.worker], madeLater[worker.worker])
            // Some were received before, from the thread that makes the workers wait. Later its list may be of nodes that it
            // received, as long as they are fewer than two batches.
            report.expect(
                first[expected, default: 0] > Self.messageCount - 10
                    && later[expected, default: 0] > Self.messageCount - 2048,
                "messages \(worker.worker)",
                "made on node: \(first.described); after traffic: \(later.described)"
            )
        }
        for holder in holders { holder.letGo() }
    }

    private static let messageCount = 5000

    /// Makes messages on each worker and asks where they lie; how many on which node, by worker.
    private func messages() -> [[Int?: Int]] {
        let holders = floor.blockingHoldAll()
        let notes = Notes<[Int?: Int]>()
        for holder in holders {
            holder.blockingDo {
                let made = (0..<Self.messageCount).map { MessageNode.make($0) }
                var counts: [Int?: Int] = [:]
                for message in made {
                    // safety: a message node is the pointer to it.
                    let address = unsafeBitCast(message, to: UInt.self)
                    counts[(try? MemoryLocation.node(of: address)) ?? nil, default: 0] += 1
                }
                for message in made { message.refuse(as: Int.self) }
                notes.add(counts)
            }
        }
        for holder in holders { holder.letGo() }
        return notes.take()
    }

    /// Fills rings, node queues and inboxes, and has messages flow from every node to every other.
    func traffic() {
        let done = Signal()
        let holders = floor.blockingHoldAll()
        let receivers = floor.seats.map { _ in LightProc.doer(on: pool) }
        for holder in holders {
            holder.blockingDo { [pool] in
                for _ in 0..<400 { LightProc.doer(on: pool).tell { done.send() } }
                for receiver in receivers { for _ in 0..<1500 { receiver.tell { done.send() } } }
            }
        }
        for _ in 0..<600 { LightProc.doer(on: pool).tell { done.send() } }
        for holder in holders { holder.letGo() }
        done.blockingWait(floor.seats.count * (400 + 1500 * receivers.count) + 600)
        floor.blockingWaitUntilIdle()
    }

    /// A worker that has nothing to do, while one of each node has plenty: it empties the rings of its own node first, then
    /// those of other nodes by distance; and its counters say so.
    func steals(areLocal: Bool) {
        struct Steal: Sendable {
            let victim: Int
            let thief: Int
        }
        let count = 100
        for node in nodes {
            guard let thief = seats(of: node).last, seats(of: node).count > 1 else { continue }
            let holders = floor.blockingHoldAll()
            let (steals, done) = (Notes<Steal>(), Signal())
            for victim in nodes.compactMap({ seats(of: $0).first }) {
                // The last of them is what the victim would run next, which nobody takes from it while the others are busy.
                holders[victim.index].blockingDo { [floor, pool] in
                    for _ in 0...count {
                        LightProc.doer(on: pool).tell {
                            steals.add(Steal(victim: victim.index, thief: floor.here()?.index ?? -1))
                            done.send()
                        }
                    }
                }
            }
            let before = pool.counters[thief.index]
            holders[thief.index].letGo()
            done.blockingWait(count * nodes.count)
            let after = pool.counters[thief.index]
            // Once the thief sleeps, the pool gives it what the others would run next.
            let order = steals.take().prefix(count * nodes.count)
            for holder in holders where holder.seat != thief.index { holder.letGo() }
            done.blockingWait(nodes.count)

            let ranks = order.map { steal in thief.tiers.firstIndex { $0.workers.contains(steal.victim) } ?? -1 }
            let (local, near) = (after.localSteals - before.localSteals, after.nearSteals - before.nearSteals)
            let far = after.farSteals - before.farSteals
            report.expect(
                ranks == ranks.sorted() && order.allSatisfy { $0.thief == thief.index } && (local > 0) == areLocal
                    && (near > 0) == !areLocal && far > 0
                    && order.prefix(count).allSatisfy { floor.seats[$0.victim].node == node },
                "steals \(thief.index)",
                "\(local + near) times from its node (local \(local), near \(near)), then \(far) times from others:"
                    + " victims \(order.map(\.victim).runs)"
            )
        }
        floor.blockingWaitUntilIdle()
    }

    /// A process that another worker of its node wakes is run by that one; one that is woken from afar by who ran it last, or,
    /// while that one is busy, by another worker of the node. All other workers sleep meanwhile, any of which could run it.
    func wakes() {
        for node in nodes {
            guard
                let (home, neighbour) = seats(of: node).first.flatMap({ first in
                    seats(of: node).dropFirst().first.map { (first, $0) }
                }), let stranger = floor.seats.first(where: { $0.node != node })
            else { continue }
            var (near, far, kept) = ([Int?](), [Int?](), [Int?]())
            // Those that did not come about do not count; more than a few are a failure.
            for _ in 0..<Self.wakeRounds * 3 where kept.count < Self.wakeRounds {
                let proc = LightProc.doer(on: pool)
                guard wake(proc, on: home) == home.index, let first = wake(proc, on: neighbour, stays: true) else {
                    continue
                }
                near.append(first)
                guard first == neighbour.index, let second = wake(proc, on: stranger) else { continue }
                far.append(second)
                guard second == neighbour.index, let third = wake(proc, on: stranger, busy: neighbour) else { continue }
                kept.append(third)
            }
            func expect(_ runs: [Int?], on seat: Seat, _ name: String, _ waker: String) {
                report.expect(
                    runs.count >= Self.wakeRounds && runs.allSatisfy { $0 == seat.index },
                    "\(name) \(node)",
                    "\(waker): \(runs.map { $0 ?? -1 }.runs), to be on \(seat.index)"
                )
            }
            expect(near, on: neighbour, "woken", "by a neighbour")
            expect(far, on: neighbour, "afar", "from afar")
            expect(kept, on: home, "kept", "from afar, while who ran it last is busy")
        }
    }

    private static let wakeRounds = 20

    /// Has a worker wake a process while all others sleep, but for one that may be busy. Returns where it was run; nil if it
    /// did not come about: the waker was another one, or may have taken so long that what is next there was for others.
    private func wake(_ proc: LightProc, on waker: Seat, stays: Bool = false, busy: Seat? = nil) -> Int? {
        struct Wake: Sendable {
            let waker: Int?
            let runner: Int?
            let duration: Duration
        }
        let holders = floor.blockingHold([waker] + (busy.map { [$0] } ?? []))
        let (wakes, done) = (Notes<Wake>(), Signal())
        let relay = LightProc.doer(on: pool)
        // In a turn of its own, a short one.
        holders[0].letGo { [floor] in
            relay.tell {
                let (waker, start) = (floor.here()?.index, ContinuousClock.now)
                proc.tell {
                    wakes.add(Wake(waker: waker, runner: floor.here()?.index, duration: start.duration(to: .now)))
                    done.send()
                }
            }
        }
        done.blockingWait()
        for holder in holders.dropFirst() { holder.letGo() }
        floor.blockingWaitUntilIdle()
        let wake = wakes.take()[0]
        if stays, wake.runner != wake.waker, wake.duration >= Self.longTurn { return nil }
        return wake.waker == waker.index ? wake.runner ?? -1 : nil
    }

    /// From which on a turn is long for the pool: what it has made ready goes to workers that sleep.
    private static let longTurn = Duration.microseconds(500)

    /// Processes that are made on a node are run there while its workers keep up: made by a process, and by another thread.
    func spawns() {
        for node in nodes {
            guard let first = seats(of: node).first else { continue }
            let (places, done) = (Notes<Int?>(), Signal())
            var inside: [Int?] = []
            // Again if the parent did not begin there, which happens; more than a few times is a failure.
            for _ in 0..<5 where inside.isEmpty {
                let parent = LightProc.doer(on: pool)
                floor.blockingHold([first])[0].letGo { [floor] in
                    parent.tell {
                        guard floor.here()?.index == first.index else { return done.send() }
                        Self.spawn(500, of: parent, on: floor, places, done)
                    }
                }
                done.blockingWait()
                inside = places.take()
                floor.blockingWaitUntilIdle()
            }
            report.expect(
                inside.count == 500 && inside.allSatisfy { $0 == node },
                "spawned \(node)",
                "\(inside.count) made there ran on \(Set(inside))"
            )

            floor.blockingWaitUntilIdle()
            try? ThreadPlacement.restrict(toOSPUs: seats(of: node).map(\.osPU))
            let outside = makeOutside(100, places, done) { floor.blockingWaitUntilIdle() }
            // Who still looks for work elsewhere may be faster, where the machine runs as many threads as here.
            let stream = makeOutside(200, places, done) {}
            try? ThreadPlacement.restrict(toOSPUs: floor.seats.map(\.osPU))
            report.expect(
                outside.count == 100 && outside.allSatisfy { $0 == node },
                "outside \(node)",
                "\(outside.count) made by a thread there ran on \(Set(outside));"
                    + " of \(stream.count) one right after the other \(stream.count { $0 == node }) stayed"
            )
        }
    }

    /// Processes that are pinned to a node, or to one processor of it, run there alone, by the kernel's word: told by a thread that is
    /// no worker, by workers of all nodes, and by each other, while all other workers have nothing to do.
    func pins() {
        struct Place: Sendable {
            let isAlone: Bool
            let pu: Int?
        }
        for node in nodes {
            guard let first = seats(of: node).first, let number = first.memoryNode else { continue }
            let (places, done) = (Notes<Place>(), Signal())
            func pinned(_ cores: CoreSet) -> LightProc {
                let proc = LightProc.doer(on: pool)
                do throws(PinningError) {
                    try proc.pin(to: cores)
                } catch {
                    report.expect(false, "pinned \(node)", error.description)
                }
                return proc
            }
            let procs = (0..<8).map { (pinned($0 % 2 == 0 ? .node(number) : .cores([first.osPU])), $0 % 2 == 1) }
            @Sendable func run(_ index: Int, _ rounds: Int) {
                let (proc, isAlone) = procs[index % procs.count]
                proc.tell {
                    places.add(Place(isAlone: isAlone, pu: ThreadPlacement.currentPU()))
                    if rounds == 0 { done.send() } else { run(index + 1, rounds - 1) }
                }
            }
            for index in procs.indices { run(index, 20) }
            for seat in floor.seats {
                let relay = LightProc.doer(on: pool)
                do throws(PinningError) {
                    try relay.pin(to: .cores([seat.osPU]))
                } catch {
                    report.expect(false, "pinned \(node)", error.description)
                }
                relay.tell { run(seat.index, 20) }
            }
            done.blockingWait(procs.count + floor.seats.count)
            let notes = places.take()
            let anywhere = Set(notes.filter { !$0.isAlone }.map { $0.pu ?? -1 })
            let alone = Set(notes.filter(\.isAlone).map { $0.pu ?? -1 })
            report.expect(
                notes.count == 21 * (procs.count + floor.seats.count) && alone == [first.osPU]
                    && anywhere.isSubset(of: seats(of: node).map(\.osPU)),
                "pinned \(node)",
                "to node \(number): ran on CPUs \(anywhere.sorted()); to CPU \(first.osPU): on \(alone.sorted())"
            )
        }
        floor.blockingWaitUntilIdle()
    }

    /// Makes processes, one when the other has run, on the calling thread, which is no worker. Returns where they ran.
    private func makeOutside(_ count: Int, _ places: Notes<Int?>, _ done: Signal, _ pause: () -> Void) -> [Int?] {
        for _ in 0..<count {
            pause()
            LightProc.doer(on: pool).tell { [floor] in
                places.add(floor.here()?.node)
                done.send()
            }
            done.blockingWait()
        }
        return places.take()
    }

    /// Makes one process after the other, each by the parent when the one before has run.
    private static func spawn(
        _ count: Int,
        of parent: LightProc,
        on floor: Floor,
        _ places: Notes<Int?>,
        _ done: Signal
    ) {
        guard count > 0 else { return done.send() }
        LightProc.doer(on: floor.pool).tell {
            places.add(floor.here()?.node)
            parent.tell { spawn(count - 1, of: parent, on: floor, places, done) }
        }
    }
}

extension [Int?: Int] {
    fileprivate var described: String { map { "\($0.value) on \($0.key ?? -1)" }.sorted().joined(separator: ", ") }
}

extension Array where Element: Equatable {
    /// As in `[1x100, 3x50]`.
    fileprivate var runs: String {
        var runs: [(Element, Int)] = []
        for each in self {
            if runs.last?.0 == each { runs[runs.count - 1].1 += 1 } else { runs.append((each, 1)) }
        }
        return "\(runs.map { "\($0.0)x\($0.1)" })"
    }
}
