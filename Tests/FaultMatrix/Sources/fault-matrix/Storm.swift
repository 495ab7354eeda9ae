// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import Synchronization

/// Traps as many and as fast as can be, of all kinds and in all kinds of process, beside processes that must not notice.
struct Storm {
    let count: Int
    let seed: UInt64
    let misdeeds: [Misdeed]

    /// What a trap may leave behind, on average. Far below a stack, which is a mebibyte.
    private static let bytesPerTrap = 8 * 1024
    /// How much more the estimate of what is leaked may be than what memory has grown by. It counts whole frames, of which
    /// only a part holds references: a mixed storm is counted 2.0 times in debug builds, 1.5 times in release builds.
    private static let overestimate = 3
    /// What memory may grow by for other reasons: pools, arenas of the allocator, symbols.
    private static let tolerance = 16 << 20
    /// Those at rest after a trap, and those in use.
    private static let stacks = 48
    private static let drivers = 4
    /// One trap in so many is a stack overflow: each takes as long as dozens of others.
    private static let rarely = 256

    func run(_ pool: WorkerPool) async -> Bool {
        await UsedContinuation.shared.use()
        let system = BastionSystem(name: "storm", executor: pool)
        let threads = 2 * pool.workerCount + 3
        guard let tree = try? start(system), Threads.blockingWait(forLasting: threads) != nil else {
            say("FAILED storm: it does not start: \(Threads.names())")
            return false
        }
        // All stacks that are in use in turn are touched to their ends once: later growth is not theirs.
        for _ in 0..<Self.stacks {
            _ = await pool.spawn { Misdeed.stackOverflow.commit() }.outcome()
            _ = await pool.spawnBlocking { Misdeed.stackOverflow.commit() }.outcome()
        }
        let before = Containment.contained
        let (told, reached) = (Kept<String>(), Gate())
        Containment.observe(on: pool) { event in
            switch event {
            case .trapped: told.add("trapped")
            case .leakBudgetNear: told.add("near")
            case .leakBudgetReached:
                told.add("reached")
                reached.open()
            }
        }
        // Less than they will leak: a trap costs some kibibytes.
        Containment.leakBudget = Containment.leaked.bytes + max(count, 1) * 512
        let storm = self
        let progress = Progress()
        let bystanders = (0..<2).map { _ in system.spawn(Bystander()) } + tree.bystanders.members
        let loads = bystanders.map { bystander in
            pool.spawn { try await Self.load(bystander, pool, until: progress) }
        }
        let began = seconds()
        let drivers = (0..<Self.drivers).map { number in
            pool.spawn { await storm.drive(number, tree, pool, progress) }
        }
        let watch = watch(progress)
        var complaints: [String] = []
        for driver in drivers {
            switch await driver.outcome() {
            case .finished(let found): complaints += found
            case .failed(let reason): complaints.append("a driver ended: \(reason)")
            }
        }
        let took = seconds() - began
        progress.finish()
        let (warm, warmLeak, most) = watch.blockingWait()
        var messages = 0
        for load in loads {
            switch await load.outcome() {
            case .finished(let count): messages += count
            case .failed(let reason): complaints.append("a sender ended: \(reason)")
            }
        }
        let resident = residentBytes()
        let counted = Containment.leaked.bytes - warmLeak
        let perTrap = { (bytes: Int) in bytes / max(count - count / 10, 1) }
        let contained = Containment.contained - before
        if contained != count { complaints.append("\(count) traps were committed, \(contained) contained") }
        complaints += compare(grown: resident - warm, counted: counted, traps: count - count / 10)
        complaints += await Self.check(told, until: reached)
        let after = Threads.blockingWait(forLasting: threads)
        if after == nil { complaints.append("there are \(Threads.names()), not \(threads)") }
        // Beside each seat: two dead threads that wait for their end, and the next heir.
        if most > threads + 3 * pool.workerCount { complaints.append("there were \(most) threads at a time") }
        complaints += await dead(in: tree)
        let megabytes = { (bytes: Int) in "\(bytes >> 20) MiB" }
        say(
            """
            storm: \(count) traps, SEED=\(seed), \(Int(Double(count) / took)) a second; \(messages) messages beside them
            resident: \(megabytes(warm)) after a tenth, \(megabytes(resident)) at the end, \(perTrap(resident - warm)) bytes a trap
            counted as leaked in that time: \(megabytes(counted)), \(perTrap(counted)) bytes a trap
            threads: \(threads) before, \(most) at most, \(after?.count ?? -1) after
            reaper: \(Threads.processorTime(of: "bastion-reaper") / max(count, 1) / 1000) microseconds a trap
            """
        )
        say(complaints.isEmpty ? "ok storm" : "FAILED storm: \(Set(complaints).sorted().joined(separator: "; "))")
        return complaints.isEmpty
    }

    /// Whether memory has grown by what is counted as leaked, neither by far more nor by far less.
    private func compare(grown: Int, counted: Int, traps: Int) -> [String] {
        var complaints: [String] = []
        if grown > Self.bytesPerTrap * traps + Self.tolerance {
            complaints.append("a trap costs \(grown / max(traps, 1)) bytes")
        }
        if grown > counted + Self.tolerance {
            complaints.append("memory has grown by \(grown) bytes, of which only \(counted) are counted as leaked")
        }
        // An overflow is counted with the part of its stack that may hold references, and holds none. It is rare in a mix.
        if misdeeds.count > 1, counted > Self.overestimate * grown + Self.tolerance {
            complaints.append("\(counted) bytes are counted as leaked, and memory has grown by \(grown) only")
        }
        return complaints
    }

    /// The budget was passed on the way, and both was told, once.
    private static func check(_ told: Kept<String>, until reached: Gate) async -> [String] {
        let leaked = Containment.leaked
        guard leaked.bytes >= leaked.budget else {
            return ["only \(leaked.bytes) bytes are counted as leaked, the budget is \(leaked.budget)"]
        }
        // Ends: what is told is told by a process, as soon as there is a turn; else the watchdog says so.
        await reached.wait()
        return told.all == ["near", "reached"] ? [] : ["of the budget was told: \(told.all)"]
    }

    // MARK: Those who trap

    private struct Tree {
        let reactive: Group<Order>
        let async: Group<Order>
        /// Async processes that must not notice.
        let bystanders: Group<Bystander.Message>
    }

    private func start(_ system: BastionSystem) throws -> Tree {
        let ref = try system.supervise(intensity: .unlimited) {
            Children("reactive", Trapper(), redundancy: Self.drivers)
            Children("async", redundancy: Self.drivers) { context in
                for await order in context.messages(of: Order.self) { await order.obey() }
            }
            Children("bystander", redundancy: 2) { context in
                var numbers: [Int] = []
                for await message in context.messages(of: Bystander.Message.self) {
                    switch message {
                    case .number(let number): numbers.append(number)
                    case .take(let reply):
                        reply(numbers)
                        numbers = []
                    }
                }
            }
        }
        return Tree(
            reactive: try ref.group("reactive"),
            async: try ref.group("async"),
            bystanders: try ref.group("bystander")
        )
    }

    /// All children answer.
    private func dead(in tree: Tree) async -> [String] {
        var complaints: [String] = []
        for member in tree.reactive.members + tree.async.members {
            let answer = try? await member.ask(within: .seconds(30)) { Order(misdeed: nil, manner: 0, reply: $0) }
            if answer != 1 { complaints.append("\(member) is not alive") }
        }
        return complaints
    }

    private func drive(_ number: Int, _ tree: Tree, _ pool: WorkerPool, _ progress: Progress) async -> [String] {
        var random = SeededGenerator(state: seed &+ UInt64(number))
        var complaints: [String] = []
        let mine = count / Self.drivers + (number < count % Self.drivers ? 1 : 0)
        for _ in 0..<mine {
            let misdeed = pick(&random)
            let manner = Int(random.next() % 6)
            switch random.next() % 8 {
            case 0..<3: complaints += await ask(tree.reactive.members[number], misdeed, manner)
            case 3..<6: complaints += await ask(tree.async.members[number], misdeed, manner)
            case 6:
                let handle = pool.spawn { misdeed.commit() }
                complaints += check(await handle.outcome(), handle.id)
            default:
                let handle = pool.spawnBlocking { misdeed.commit() }
                complaints += check(await handle.outcome(), handle.id)
            }
            progress.add()
        }
        return complaints
    }

    private func pick(_ random: inout SeededGenerator) -> Misdeed {
        if misdeeds.count == 1 { return misdeeds[0] }
        if random.next() % UInt64(Self.rarely) == 0 { return .stackOverflow }
        while true {
            let misdeed = misdeeds[Int(random.next() % UInt64(misdeeds.count))]
            if misdeed != .stackOverflow { return misdeed }
        }
    }

    private func ask(_ child: ProcRef<Order>, _ misdeed: Misdeed, _ manner: Int) async -> [String] {
        do {
            let answer = try await child.ask(within: .seconds(60)) {
                Order(misdeed: misdeed, manner: manner, reply: $0)
            }
            return ["\(misdeed) was answered with \(answer)"]
        } catch {
            guard let report = error.reason?.trapReport else { return ["\(misdeed): \(error)"] }
            return report.process == child.id ? [] : ["\(report.process) is blamed, it was \(child.id)"]
        }
    }

    private func check(_ outcome: RecoverableHandle<Int>.Outcome, _ id: ProcID) -> [String] {
        guard case .failed(.trap(let report)) = outcome else { return ["a process ended as \(outcome)"] }
        return report.process == id ? [] : ["\(report.process) is blamed, it was \(id)"]
    }

    // MARK: Those who do not notice

    /// Sends numbers in bursts, and looks that they arrive, all and in order.
    private static func load(
        _ bystander: ProcRef<Bystander.Message>,
        _ executor: any ProcExecutor,
        until progress: Progress
    ) async throws -> Int {
        var sent = 0
        while true {
            let isLast = progress.isFinished
            for number in sent..<sent + 64 { bystander.tell(.number(number)) }
            let got = try await bystander.ask(within: .seconds(60)) { .take($0) }
            guard got == Array(sent..<sent + 64) else { throw Boom() }
            sent += 64
            if isLast { return sent }
            // A load, not all there is to do: the traps are to come fast.
            await withUnsafeContinuation { continuation in
                _ = executor.schedule(after: .milliseconds(2)) { continuation.resume() }
            }
        }
    }

    /// On a thread of its own: how many threads there are at a time, and after a tenth of the traps the memory and what is
    /// counted as leaked.
    private func watch(_ progress: Progress) -> Watch {
        let watch = Watch()
        let tenth = count / 10
        watch.start {
            var (warm, leaked, most) = (0, 0, 0)
            while !progress.isFinished {
                if warm == 0, progress.count >= tenth { (warm, leaked) = (residentBytes(), Containment.leaked.bytes) }
                most = max(most, Threads.lasting().count)
                usleep(5_000)
            }
            return warm == 0 ? (residentBytes(), Containment.leaked.bytes, most) : (warm, leaked, most)
        }
        return watch
    }
}

/// What a child is to do; without a misdeed it answers.
private struct Order: Sendable {
    let misdeed: Misdeed?
    let manner: Int
    let reply: Reply<Int>

    func obeyAtOnce() {
        guard let misdeed else { return reply(1) }
        if manner % 2 == 0 {
            misdeed.commit()
        } else {
            _ = opaque(Bomb(misdeed))
        }
    }

    func obey() async {
        guard let misdeed else { return reply(1) }
        switch manner {
        case 0: misdeed.commit()
        case 1:
            await withTaskGroup(of: Int.self) { group in
                group.addTask { misdeed.commit() }
                group.addTask { 1 }
                _ = await group.reduce(0, +)
            }
        case 2:
            async let child = misdeed.commit()
            _ = await child
        case 3: _ = await Sinner().commit(misdeed)
        case 4:
            await Task.yield()
            misdeed.commit()
        default: _ = opaque(Bomb(misdeed))
        }
    }
}

private actor Sinner {
    func commit(_ misdeed: Misdeed) -> Int { misdeed.commit() }
}

private struct Trapper: Reactive {
    typealias Message = Order
    mutating func receive(_ message: consuming Order, in context: borrowing ReactiveContext<Self>) {
        message.obeyAtOnce()
    }
}

private final class Progress: Sendable {
    private let traps = Atomic(0)
    private let finished = Atomic(false)
    // ordering: sequentiallyConsistent: tests are not in a hurry.
    var count: Int { traps.load(ordering: .sequentiallyConsistent) }
    var isFinished: Bool { finished.load(ordering: .sequentiallyConsistent) }
    func add() { traps.add(1, ordering: .sequentiallyConsistent) }
    func finish() { finished.store(true, ordering: .sequentiallyConsistent) }
}

/// A thread that counts.
private final class Watch: @unchecked Sendable {
    // Sendable: `result` is written before the thread ends and read after it was joined; the rest before it starts.
    private var thread = pthread_t()
    private var body: () -> (Int, Int, Int) = { (0, 0, 0) }
    private var result = (0, 0, 0)

    func start(_ body: @escaping () -> (Int, Int, Int)) {
        self.body = body
        pthread_create(
            &thread,
            nil,
            { argument in
                let watch = Unmanaged<Watch>.fromOpaque(argument!).takeUnretainedValue()
                watch.result = watch.body()
                return nil
            },
            Unmanaged.passUnretained(self).toOpaque()
        )
    }

    func blockingWait() -> (Int, Int, Int) {
        pthread_join(thread, nil)
        return result
    }
}

/// SplitMix64: small, seedable, good enough for tests.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
