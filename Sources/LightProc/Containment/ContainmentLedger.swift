// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What is known of the program's traps, and the queue of what is to be told about them.
///
/// Filled by whoever decides about a trap, emptied by the ``ReportThread``, which may take its time: looking up symbols
/// reads files. A storm of traps may be faster: then reports that find the queue full are looked up only when somebody asks for
/// their words, and how many were not told is told instead.
package final class ContainmentLedger: Sendable {
    package static let shared = ContainmentLedger()

    private struct Observer {
        let number: UInt64
        weak var scheduler: (any ProcScheduler)?
        let calls: OrderedCalls<ContainmentEvent>
    }
    private struct State {
        var contained = 0
        var account = LeakAccount(budget: 256 << 20)
        /// Nil where an item has been taken: all before `head`, so that what they hold is freed by who took them.
        var queue: [Item?] = []
        /// The next of the queue.
        var head = 0
        /// Reports that found the queue full, by the domain that would have told them.
        var untold: [UInt32: Int] = [:]
        var observers: [Observer] = []
        var nextNumber: UInt64 = 0
        var domains: [UInt32: Domain] = [:]
        var nextDomain: UInt32 = 1
        var witness: (@Sendable (ContainmentNews) -> Void)?

        var estimate: LeakEstimate { LeakEstimate(bytes: account.bytes, budget: account.budget) }

        /// The domain that is to be told of the reports of a domain, if any.
        func telling(_ domain: UInt32) -> Domain? {
            domains[domain].flatMap { $0.policy == .containAndReport ? $0 : nil }
        }

        mutating func next() -> Item? {
            guard head < queue.count else {
                (queue, head) = ([], 0)
                guard let (domain, count) = untold.popFirst() else { return nil }
                return telling(domain).map { .untold(count, to: $0) } ?? next()
            }
            if head > 64, head * 2 > queue.count {
                // Half of it at a time, so that each is moved once on average.
                queue.removeFirst(head)
                head = 0
            }
            defer { (queue[head], head) = (nil, head + 1) }
            return queue[head]
        }

        /// Queues what is to be told of the account; returns what the witness is told at once, if there is one.
        mutating func announce(_ step: LeakAccount.Step, _ trap: TrapReport? = nil, restarts: Int = 0) -> (() -> Void)?
        {
            let event: ContainmentEvent? =
                switch step {
                case .nothing: nil
                case .near: .leakBudgetNear(estimate)
                case .reached: .leakBudgetReached(estimate)
                }
            if let event { queue.append(.event(event)) }
            guard let witness else { return nil }
            let news = ContainmentNews(
                trap: trap,
                restarts: restarts,
                event: event,
                contained: contained,
                leaked: estimate
            )
            return { witness(news) }
        }
    }
    private enum Item {
        case report(TrapReport, to: Domain?)
        case untold(Int, to: Domain)
        case event(ContainmentEvent)
    }
    private let state = Locked(State())

    /// Processes with one policy, whose reports go to one place.
    struct Domain {
        let policy: ContainmentPolicy
        let report: @Sendable (TrapReport) -> Void
        /// So many reports were left out.
        let untold: @Sendable (Int) -> Void
    }

    /// So many reports wait to be looked up, at most.
    static let capacity = 4096

    private init() {}

    var contained: Int { state.withLock { $0.contained } }
    var leaked: LeakEstimate { state.withLock { $0.estimate } }

    // MARK: Domains

    /// Makes a domain. Processes refer to it by number; 0 is that of processes without one: contain, report nowhere.
    func makeDomain(_ domain: Domain) -> UInt32 {
        state.withLock { state in
            let number = state.nextDomain
            // 4 billion systems and groups with policies of their own in one run of a program do not occur.
            state.nextDomain += 1
            state.domains[number] = domain
            return number
        }
    }

    func removeDomain(_ number: UInt32) {
        // The closure is the user's: it dies outside the lock.
        _ = state.withLock { $0.domains.removeValue(forKey: number) }
    }

    func policy(of domain: UInt32) -> ContainmentPolicy {
        if domain == 0 { return .contain }
        return state.withLock { $0.domains[domain]?.policy } ?? .contain
    }

    // MARK: Traps

    /// A trap was contained. Told to others only when the report thread comes to it.
    func add(_ report: TrapReport, domain: UInt32, leaking bytes: Int, restarts: Int = 0) {
        let tell = state.withLock { state in
            state.contained += 1
            if state.queue.count - state.head < Self.capacity {
                state.queue.append(.report(report, to: state.telling(domain)))
            } else {
                report.leaveToDemand()
                if state.telling(domain) != nil { state.untold[domain, default: 0] += 1 }
            }
            return state.announce(state.account.add(bytes), report, restarts: restarts)
        }
        tell?()
    }

    /// More was leaked than was known when the trap was contained.
    package func addLeak(_ bytes: Int) {
        state.withLock { $0.announce($0.account.add(bytes)) }?()
    }

    func setBudget(_ budget: Int) {
        state.withLock { $0.announce($0.account.setBudget(budget)) }?()
    }

    /// Calls `action` for every trap and every leak from now on, at once, on the thread that has found it. One for the program.
    ///
    /// That thread may be a worker that others wait for: it must not block, nor ask the report for what has to be looked up.
    package func setWitness(_ action: @escaping @Sendable (ContainmentNews) -> Void) {
        state.withLock { $0.witness = action }
    }

    // MARK: Observers

    func observe(
        on scheduler: any ProcScheduler,
        _ action: @escaping @Sendable (ContainmentEvent) -> Void
    ) -> ContainmentObservation {
        state.withLock { state in
            state.nextNumber += 1
            let calls = OrderedCalls(action)
            state.observers.append(Observer(number: state.nextNumber, scheduler: scheduler, calls: calls))
            return ContainmentObservation(number: state.nextNumber)
        }
    }

    func forget(_ number: UInt64) {
        let gone = state.withLock { state -> [Observer] in
            let gone = state.observers.filter { $0.number == number || $0.scheduler == nil }
            state.observers.removeAll { $0.number == number || $0.scheduler == nil }
            return gone
        }
        // Closures are the user's: they die outside the lock.
        _ = gone
    }

    // MARK: The report thread

    /// Whether something waits to be told.
    var hasNews: Bool { state.withLock { $0.head < $0.queue.count || !$0.untold.isEmpty } }

    /// Looks up the symbols of what has come and tells it.
    func tellNews() {
        // Ends: traps cost more than telling.
        while tellNext() {}
    }

    /// Looks up and tells what came first. False if there is nothing. By the report thread only, or where there can be none.
    func tellNext() -> Bool {
        guard let item = state.withLock({ $0.next() }) else { return false }
        switch item {
        case .report(let report, let domain?):
            // Who is told may want the names of all frames, and be a worker.
            report.resolve(withFrames: true)
            domain.report(report)
            tell(.trapped(report))
        case .report(let report, nil):
            report.resolve()
        case .untold(let count, let domain):
            domain.untold(count)
        case .event(let event):
            tell(event)
        }
        return true
    }

    private func tell(_ event: ContainmentEvent) {
        for observer in state.withLock({ $0.observers }) {
            guard let scheduler = observer.scheduler else { continue }
            observer.calls.call(event, on: scheduler)
        }
    }
}

/// What has just become known of the program's traps.
package struct ContainmentNews: Sendable {
    /// The trap, if it is one; nil if it is a leak.
    package let trap: TrapReport?
    /// How many times the process that trapped had been restarted before.
    package let restarts: Int
    /// What became of the leak budget by it.
    package let event: ContainmentEvent?
    /// Traps contained since the program started.
    package let contained: Int
    /// What they have leaked.
    package let leaked: LeakEstimate
}

/// Processes with one policy; lasts as long as somebody holds it.
package final class ContainmentDomain: Sendable {
    package let number: UInt32
    package let policy: ContainmentPolicy

    /// - Parameters:
    ///   - report: Called on the report thread, with symbols looked up; must not block or trap.
    ///   - untold: Likewise, with the number of reports that were left out, as traps came faster than they could be looked up.
    package init(
        _ policy: ContainmentPolicy,
        report: @escaping @Sendable (TrapReport) -> Void,
        untold: @escaping @Sendable (Int) -> Void
    ) {
        self.policy = policy
        number = ContainmentLedger.shared.makeDomain(.init(policy: policy, report: report, untold: untold))
    }

    deinit { ContainmentLedger.shared.removeDomain(number) }
}

extension LightProc {
    /// The number of its ``ContainmentDomain``; 0: its traps are contained, and reported nowhere.
    package var domain: UInt32 { existingSide?.content.withLock { $0.domain } ?? 0 }

    /// Puts the process into a ``ContainmentDomain``. Before anybody else knows it.
    package func join(_ domain: UInt32) {
        if domain != 0 { withSide { $0.domain = domain } }
    }
}
