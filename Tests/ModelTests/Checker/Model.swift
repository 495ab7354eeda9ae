// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// A bounded model checker: runs a few threads in every order that its bounds admit, one at a time.
///
/// The threads are real ones that hand each other a baton. Before each access to an atomic word the one that runs
/// decides, by the next choice of the path, who goes on. A depth-first search over the paths tries all of them:
///
/// - Interleavings, with at most `preemptions` switches away from a thread that could have gone on.
/// - Store buffers as on x86 (TSO): a store weaker than sequentially consistent waits in a queue of its thread until
///   the thread's next read-modify-write or sequentially consistent store. Others may see it earlier: whenever one
///   touches a word with waiting stores, how many of them have arrived is a choice too.
///
/// Orderings weaker than that are not simulated, but held to account: acquiring and releasing accesses carry vector
/// clocks, and an access to ``PlainCell`` that they do not order after the conflicting one is a failure.
final class Model {
    struct Choice {
        var taken: Int
        let count: Int
    }

    struct Failure: Error, CustomStringConvertible {
        let message: String
        let choices: [Int]
        let trace: [String]
        var description: String {
            ([message] + trace.map { "  " + $0 }).joined(separator: "\n") + "\n  replay with MODEL_REPLAY="
                + choices.map(String.init).joined(separator: ".")
        }
    }

    struct Outcome {
        var executions = 0
        var steps = 0
        var seconds = 0.0
        var failure: Failure?
    }

    /// What is made weaker everywhere, to see that the models notice.
    enum Mutation {
        /// A sequentially consistent store no longer waits until it has arrived.
        case noStoreLoadFence
        /// An acquiring access is relaxed.
        case noAcquire
        /// A releasing access is relaxed.
        case noRelease
        /// Others may get in between the reading and the writing of a read-modify-write.
        case tornUpdates
    }

    /// The model that is being checked: one at a time, see ``ModelTests``.
    nonisolated(unsafe) private(set) static var running: Model?

    private var threads: [ModelThread] = []
    private var finals: [() -> String?] = []
    private(set) var nodes: [PlainCell] = []
    private let controller = Baton()
    let mutation: Mutation?

    /// The thread that has the baton; nil while a model is set up and when its threads are through.
    private(set) var current: ModelThread?
    private var preemptionsLeft = 0
    private var path: [Choice] = []
    private var position = 0
    private var steps = 0
    private var stepLimit = 0
    private var message: String?
    private var isTracing = false
    private var trace: [String] = []
    private var cellCount = 0

    private init(mutation: Mutation?) { self.mutation = mutation }

    // MARK: Checking

    /// Tries every schedule of the threads that `setUp` adds, until one fails.
    static func check(
        preemptions: Int = 2,
        mutation: Mutation? = nil,
        _ setUp: (Model) -> Void
    ) -> Outcome {
        let model = Model(mutation: mutation)
        running = model
        defer { running = nil }
        let pool = (0..<3).map { ModelThread(index: $0) }
        defer { for thread in pool { thread.dismiss() } }
        var outcome = Outcome()
        let start = seconds()
        let replay = getenv("MODEL_REPLAY").map { String(cString: $0).split(separator: ".").map { Int($0) ?? 0 } }
        if let replay { model.path = replay.map { Choice(taken: $0, count: $0 + 1) } }
        repeat {
            outcome.executions += 1
            model.isTracing = replay != nil
            model.execute(pool, preemptions, setUp)
            if let replay { print((model.trace + ["replayed \(replay)"]).joined(separator: "\n")) }
            if let message = model.message {
                model.isTracing = true
                model.execute(pool, preemptions, setUp)
                outcome.failure = Failure(
                    message: model.message ?? message + " (not reproduced: the model is not deterministic)",
                    choices: model.path.map(\.taken),
                    trace: model.trace
                )
            }
        } while outcome.failure == nil && replay == nil && model.advance()
        outcome.steps = model.steps
        outcome.seconds = seconds() - start
        return outcome
    }

    private static func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Runs the threads once, along the path as far as it is laid down and by first choices from there.
    private func execute(_ pool: [ModelThread], _ preemptions: Int, _ setUp: (Model) -> Void) {
        position = 0
        preemptionsLeft = preemptions
        stepLimit = steps + 5_000
        message = nil
        trace = []
        cellCount = 0
        threads = []
        finals = []
        nodes = []
        spare = pool
        setUp(self)
        guard let first = pickEnabled() else { return }
        current = first
        first.baton.give()
        controller.blockingWait()
        // All that could run has; whoever still waits does so for ever. It is told, and returns.
        current = nil
        for thread in threads where thread.condition != nil {
            thread.condition = nil
            thread.baton.give()
            controller.blockingWait()
        }
        if message == nil { for final in finals { message = message ?? final() } }
        finals = []
        for thread in threads { thread.body = nil }
    }

    private func advance() -> Bool {
        while let last = path.last {
            if last.taken + 1 < last.count {
                path[path.count - 1].taken += 1
                return true
            }
            path.removeLast()
        }
        return false
    }

    private func choose(_ count: Int) -> Int {
        if count == 1 { return 0 }
        defer { position += 1 }
        if position < path.count { return min(path[position].taken, count - 1) }
        path.append(Choice(taken: 0, count: count))
        return 0
    }

    // MARK: Setting up

    private var spare: [ModelThread] = []

    /// Adds a thread; at most three.
    func thread(_ body: @escaping () -> Void) {
        let thread = spare.removeFirst()
        thread.reset(body, model: self)
        threads.append(thread)
    }

    /// Adds a check for the end of each execution: what is wrong, or nil.
    func finally(_ check: @escaping () -> String?) { finals.append(check) }

    func makeNode() -> MessageNode {
        nodes.append(PlainCell())
        return MessageNode(index: nodes.count - 1)
    }

    func nextCellNumber() -> Int {
        cellCount += 1
        return cellCount
    }

    // MARK: Called by the threads

    /// Reports what must not be.
    func fail(_ text: String) { if message == nil { message = text } }

    func note(_ text: @autoclosure () -> String) {
        if isTracing { trace.append("thread \(current?.index ?? -1): " + text()) }
    }

    /// Waits until the condition over the words' memory holds. False if it never will.
    func wait(until condition: @escaping () -> Bool) -> Bool {
        guard let me = current else { return false }
        note("waits")
        me.hasBegun = true
        me.condition = condition
        leave(me)
        me.baton.blockingWait()
        me.condition = nil
        return current != nil
    }

    /// The threads' place to switch, and for the stores of others to arrive: called before each access to a word.
    func beforeAccess(to cell: Cell) {
        guard let me = current else { return }
        steps += 1
        if steps > stepLimit {
            fatalError(
                "model: no end after 5000 steps; MODEL_REPLAY=\(path.map { String($0.taken) }.joined(separator: "."))"
            )
        }
        if !me.hasBegun {
            // What a thread does before its first access concerns nobody: each is brought there, then the choices begin.
            me.hasBegun = true
            if let next = pickEnabled(), next !== me { hand(from: me, to: next) }
        } else if preemptionsLeft > 0 {
            var enabled = [me]
            for thread in threads where thread !== me && thread.isEnabled { enabled.append(thread) }
            let next = enabled[choose(enabled.count)]
            if next !== me {
                preemptionsLeft -= 1
                hand(from: me, to: next)
            }
        }
        settleOthers(touching: cell)
    }

    /// Lets stores of other threads to a word arrive, as many as the choice says, with all that went before them.
    private func settleOthers(touching cell: Cell) {
        for thread in threads where thread !== current && !thread.buffer.isEmpty {
            var ends = [0]
            for (index, store) in thread.buffer.enumerated() where store.cell === cell { ends.append(index + 1) }
            let count = ends[choose(ends.count)]
            if count > 0 {
                note("sees \(count) stores of thread \(thread.index)")
                for store in thread.buffer[..<count] { store.arrive() }
                thread.buffer.removeFirst(count)
            }
        }
    }

    /// Empties the calling thread's store buffer.
    func drain() {
        guard let me = current else { return }
        while !me.buffer.isEmpty {
            settleOthers(touching: me.buffer[0].cell)
            me.buffer.removeFirst().arrive()
        }
    }

    // MARK: The baton

    private func hand(from me: ModelThread, to next: ModelThread) {
        current = next
        next.baton.give()
        me.baton.blockingWait()
    }

    private func pickEnabled() -> ModelThread? {
        if let fresh = threads.first(where: { !$0.hasBegun && !$0.isDone }) { return fresh }
        let enabled = threads.filter(\.isEnabled)
        return enabled.isEmpty ? nil : enabled[choose(enabled.count)]
    }

    /// Hands on the baton of a thread that cannot go on.
    private func leave(_ me: ModelThread) {
        if let next = pickEnabled() ?? afterArrivals() {
            current = next
            next.baton.give()
        } else {
            controller.give()
        }
    }

    /// Nobody can go on: what is still in the buffers arrives at last.
    private func afterArrivals() -> ModelThread? {
        for thread in threads {
            for store in thread.buffer { store.arrive() }
            thread.buffer = []
        }
        return pickEnabled()
    }

    fileprivate func finished(_ me: ModelThread) {
        me.isDone = true
        guard current != nil else { return controller.give() }
        leave(me)
    }
}

/// A thread of a model, with its store buffer and its clock.
final class ModelThread {
    struct Store {
        let cell: Cell
        let value: UInt64
        let clock: Clock
        func arrive() {
            cell.value = value
            cell.clock = clock
        }
    }

    let index: Int
    let baton = Baton()
    var buffer: [Store] = []
    var clock = Clock()
    var isDone = true
    /// Whether it has come to its first access.
    var hasBegun = false
    /// What it waits for, if it does.
    var condition: (() -> Bool)?
    fileprivate var body: (() -> Void)?
    private unowned(unsafe) var model: Model!
    private var handle = pthread_t()

    init(index: Int) {
        self.index = index
        let context = Unmanaged.passRetained(self).toOpaque()
        let status = pthread_create(
            &handle,
            nil,
            { context in
                Unmanaged<ModelThread>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            },
            context
        )
        precondition(status == 0, "pthread_create failed with \(status)")
    }

    var isEnabled: Bool { !isDone && (condition?() ?? true) }

    fileprivate func reset(_ body: @escaping () -> Void, model: Model) {
        self.body = body
        self.model = model
        buffer = []
        clock = Clock()
        clock.tick(index)
        isDone = false
        hasBegun = false
        condition = nil
    }

    fileprivate func dismiss() {
        body = nil
        baton.give()
        pthread_join(handle, nil)
    }

    private func run() {
        while true {
            baton.blockingWait()
            // Ends: `dismiss` leaves no body.
            guard let body else { return }
            body()
            model.finished(self)
        }
    }
}

/// A binary semaphore.
final class Baton {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() { sem_init(semaphore, 0, 0) }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func give() { sem_post(semaphore) }

    func blockingWait() {
        // Ends: the baton is given. Retried only after a signal.
        while sem_wait(semaphore) != 0 {}
    }
}
