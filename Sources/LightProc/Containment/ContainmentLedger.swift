// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What is known of the program's traps, and the queue of what is to be told about them.
///
/// Filled by whoever decides about a trap, emptied by the reporter's thread, which may take its time: looking up symbols
/// reads files.
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
        var queue: [Item] = []
        var observers: [Observer] = []
        var nextNumber: UInt64 = 0
        var domains: [UInt32: Domain] = [:]
        var nextDomain: UInt32 = 1

        var estimate: LeakEstimate { LeakEstimate(bytes: account.bytes, budget: account.budget) }

        mutating func announce(_ step: LeakAccount.Step) {
            switch step {
            case .nothing: break
            case .near: queue.append(.event(.leakBudgetNear(estimate)))
            case .reached: queue.append(.event(.leakBudgetReached(estimate)))
            }
        }
    }
    private enum Item {
        case report(TrapReport, to: Domain?)
        case event(ContainmentEvent)
    }
    private let state = Locked(State())

    /// Processes with one policy, whose reports go to one place.
    struct Domain {
        let policy: ContainmentPolicy
        let report: @Sendable (TrapReport) -> Void
    }

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

    /// A trap was contained. Told to others only when the reporter comes to it.
    func add(_ report: TrapReport, domain: UInt32, leaking bytes: Int) {
        state.withLock { state in
            state.contained += 1
            let domain = domain == 0 ? nil : state.domains[domain]
            state.queue.append(.report(report, to: domain?.policy == .containAndReport ? domain : nil))
            state.announce(state.account.add(bytes))
        }
    }

    /// More was leaked than was known when the trap was contained.
    package func addLeak(_ bytes: Int) {
        state.withLock { $0.announce($0.account.add(bytes)) }
    }

    func setBudget(_ budget: Int) {
        state.withLock { $0.announce($0.account.setBudget(budget)) }
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

    // MARK: The reporter

    /// Whether something waits to be told.
    package var hasNews: Bool { state.withLock { !$0.queue.isEmpty } }

    /// Looks up the symbols of what has come and tells it. By the reporter's thread only.
    package func tellNews() {
        // Ends: what comes meanwhile is taken in the next round, and traps cost more than telling.
        while true {
            let items = state.withLock { state in
                defer { state.queue = [] }
                return state.queue
            }
            if items.isEmpty { return }
            for item in items {
                switch item {
                case .report(let report, let domain):
                    report.resolve()
                    guard let domain else { continue }
                    domain.report(report)
                    tell(.trapped(report))
                case .event(let event):
                    tell(event)
                }
            }
        }
    }

    private func tell(_ event: ContainmentEvent) {
        for observer in state.withLock({ $0.observers }) {
            guard let scheduler = observer.scheduler else { continue }
            observer.calls.call(event, on: scheduler)
        }
    }
}

/// Processes with one policy; lasts as long as somebody holds it.
package final class ContainmentDomain: Sendable {
    package let number: UInt32
    package let policy: ContainmentPolicy

    /// - Parameter report: Called on the reporter's thread, with symbols looked up; must not block or trap.
    package init(_ policy: ContainmentPolicy, report: @escaping @Sendable (TrapReport) -> Void) {
        self.policy = policy
        number = ContainmentLedger.shared.makeDomain(.init(policy: policy, report: report))
    }

    deinit { ContainmentLedger.shared.removeDomain(number) }
}

extension LightProc {
    /// The number of its ``ContainmentDomain``; 0: its traps are contained, and reported nowhere.
    package var domain: UInt32 { existingSide?.content.withLock { $0.domain } ?? 0 }

    /// Puts the process into a ``ContainmentDomain``. Before anybody else knows it.
    package func join(_ domain: UInt32) {
        if domain != 0 { side.content.withLock { $0.domain = domain } }
    }
}
