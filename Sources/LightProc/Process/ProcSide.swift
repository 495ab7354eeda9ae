// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The part of a process that most do without: behind a lock, made on demand. One block with the lock.
final class ProcSide: ManagedBuffer<Void, Locked<ProcSideContent>.Storage> {
    typealias Content = ProcSideContent

    static func make() -> ProcSide {
        let side = unsafeDowncast(create(minimumCapacity: 1) { _ in }, to: ProcSide.self)
        Locked.initialize(side.place, to: Content())
        return side
    }

    deinit { Locked.deinitialize(place) }

    /// What is behind the lock.
    var content: Guarded { @inline(__always) get { Guarded(side: self) } }

    struct Guarded {
        fileprivate let side: ProcSide

        /// Calls `body` with the content while the lock is held.
        @inline(__always)
        func withLock<Result, Failure: Error>(
            _ body: (inout Content) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            defer { extendLifetime(side) }
            return try Locked.withLock(side.place, body)
        }
    }

    /// Where the lock and the content lie; valid as long as the object.
    var place: UnsafeMutablePointer<Locked<Content>.Storage> {
        @inline(__always) get { withUnsafeMutablePointerToElements { $0 } }
    }
}

struct ProcSideContent {
    /// The number of its ``ContainmentDomain``; 0: none.
    var domain: UInt32 = 0
    var callbacksPending = false
    /// Whether the task is being cancelled at this moment.
    var isCancelling = false
    private var hasStack = false
    /// The last incarnation whose hooks have all been called: what comes late for it finds nobody.
    var lastHooked: UInt32 = 0
    var name: String?
    /// Boxed, as the reason: they are large, and most processes have none, or one that says nothing.
    private var stackBox: Boxed<ProcStack>?
    /// Weak: the supervisor owns its children, not the other way round.
    weak var observer: (any ProcObserver)?
    /// A ``BodyFactory``.
    var factory: (any AnyObject & Sendable)?
    /// How an ended incarnation ended; set when the end is decided.
    private var exitBox: Boxed<ExitReason>?
    /// Asks whose message this process has in its hands, by the order in which it took them.
    var receipts: [ObjectIdentifier: (number: UInt64, receipt: MessageReceipt)] = [:]
    var nextReceipt: UInt64 = 0
    /// The ask that is being handled, if the message in hand is one and nobody has taken it from the process.
    var inHand: ObjectIdentifier?
    /// Messages of the control lane that wait.
    var control = ControlLane()
    /// Called at the end of the incarnation, last registered first; their numbers grow.
    var exitHooks: [ExitHook] = []
    var nextExitHook: UInt64 = 0
    /// Of a process whose incarnations may not live longer than a time, or that is ended for a reason from outside.
    var lifetime: Lifetime?
    var awaiters = Awaiters()
    // Async processes only.
    var main: AsyncBody?
    var executor: ProcTaskExecutor?
    var task: Task<Void, Never>?
    var shutdownTime: Duration = .seconds(5)
    var waiters = ReceiveWaiters()
    /// What its messages are; nil if nobody said so.
    var opener: (any MessageOpener.Type)?

    private var rare: ProcRarity?

    var hasPlainExit: Bool { exitBox?.value.isPlain ?? true }
    var hasPlainStack: Bool { stackBox?.value.isPlain ?? true }

    var lastExit: ExitReason? {
        get { exitBox?.value }
        set { exitBox = newValue.map(Boxed.of) }
    }

    /// The stack that was given, if any. `id` is the process's.
    func stack(of id: ProcID) -> ProcStack? {
        guard hasStack else { return nil }
        var stack = stackBox?.value ?? ProcStack()
        stack.pid = id
        return stack
    }

    var hasCallbacks: Bool { stackBox?.value.hasCallbacks ?? false }

    /// What an incarnation begins with: the time that it has, and what is called first. Mutating: otherwise all is copied.
    mutating func beginning() -> (limit: Duration?, beforeStart: ProcStack.Callback?) {
        (lifetime?.limit, stackBox?.value.beforeStart)
    }

    /// Takes a stack in, before the first start, with the name and the deadline that it gives the process.
    mutating func setStack(_ stack: ProcStack) {
        hasStack = true
        if stack.isEmpty { return }
        stackBox = Boxed(stack)
        name = stack.name
        if let deadline = stack.deadline { lifetime = Lifetime(limit: deadline) }
    }

    /// An end was decided, or the process is closed. Collects who is to be told; returns the first of them.
    ///
    /// - Parameter awaiters: Whether those who await a handle are.
    mutating func beginFarewell(awaiters: Bool) -> Mourner? {
        if !receipts.isEmpty {
            // In the order in which they were taken; the first is the last of the list.
            farewells += receipts.values.sorted { $0.number > $1.number }.map(\.receipt)
            receipts = [:]
        }
        return nextMourner(awaiters: awaiters)
    }

    /// Takes out who is to be told next.
    mutating func nextMourner(awaiters: Bool) -> Mourner? {
        if rare != nil, let receipt = farewells.popLast() {
            return Mourner(who: .receipt(receipt), isLast: farewells.isEmpty && (!awaiters || self.awaiters.isEmpty))
        }
        guard awaiters, let awaiter = self.awaiters.popLast() else { return nil }
        return Mourner(who: .awaiter(awaiter), isLast: self.awaiters.isEmpty)
    }

    /// The ask that is being handled; nil if there is none, or it was answered.
    var receiptInHand: MessageReceipt? {
        inHand.flatMap { receipts[$0]?.receipt }
    }

    /// An ask is in hand. One that was settled before is not kept: nobody would take it out again.
    mutating func register(_ receipt: MessageReceipt) {
        nextReceipt += 1
        receipts[ObjectIdentifier(receipt)] = (nextReceipt, receipt)
        inHand = ObjectIdentifier(receipt)
        // `settle` sets its result before it asks to be forgotten: one of the two sees the other.
        if receipt.isSettled { forget(receipt) }
    }

    /// Nobody is to be told of the ask any more; nor is it in hand, for another may come to lie where it was.
    mutating func forget(_ receipt: MessageReceipt) {
        receipts.removeValue(forKey: ObjectIdentifier(receipt))
        if inHand == ObjectIdentifier(receipt) { inHand = nil }
    }
}

/// The part of the side that is seldom there: in a block of its own, from when something of it is first needed.
private final class ProcRarity {
    var step: StepClosure?
    var lastObserver: (any ProcObserver)?
    var farewells: [MessageReceipt] = []
    var dropped: [MessageReceipt] = []
    var leftovers: UInt = 0
    var deadline: TimerToken?
    var lostTasks = 0
    var nextWaiter = 0
    var cancelledWaiters: Set<Int> = []
    var companion: (any ProcCompanion)?
    var extras: MailboxExtras?
    var nodesTaken = 0
    var stopSignal: StopSignal?
    var cores: CoreSet?
}

extension ProcSideContent {
    private mutating func makeRare() -> ProcRarity {
        if let rare { return rare }
        let fresh = ProcRarity()
        rare = fresh
        return fresh
    }

    /// The generic part, where it has a context.
    var step: StepClosure? {
        get { rare?.step }
        set { makeRare().step = newValue }
    }

    /// Messages that tasks of the process have taken out of the mailbox; counted for managed processes only.
    var nodesTaken: Int {
        get { rare?.nodesTaken ?? 0 }
        set { makeRare().nodesTaken = newValue }
    }

    /// What the present incarnation has called when it is asked to stop; nil: it is cancelled.
    var stopSignal: StopSignal? {
        get { rare?.stopSignal }
        set { if newValue != nil || rare != nil { makeRare().stopSignal = newValue } }
    }

    /// What the process is pinned to.
    var cores: CoreSet? {
        get { rare?.cores }
        set { makeRare().cores = newValue }
    }

    /// What few mailboxes have besides.
    var extras: MailboxExtras? {
        get { rare?.extras }
        _modify {
            if let rare {
                yield &rare.extras
            } else {
                var new: MailboxExtras?
                yield &new
                if let new { makeRare().extras = new }
            }
        }
    }

    /// What the layer above keeps here.
    var companion: (any ProcCompanion)? {
        get { rare?.companion }
        set { if rare != nil || newValue != nil { makeRare().companion = newValue } }
    }

    /// Held while left messages are reported to it.
    var lastObserver: (any ProcObserver)? {
        get { rare?.lastObserver }
        set { if rare != nil || newValue != nil { makeRare().lastObserver = newValue } }
    }

    /// Asks that are being told of the end, the next one last.
    var farewells: [MessageReceipt] {
        get { rare?.farewells ?? [] }
        _modify {
            if let rare {
                yield &rare.farewells
            } else {
                var new: [MessageReceipt] = []
                yield &new
                if !new.isEmpty { makeRare().farewells = new }
            }
        }
    }

    /// Asks whose reply was dropped without an answer by code of this process.
    var dropped: [MessageReceipt] {
        get { rare?.dropped ?? [] }
        _modify {
            if let rare {
                yield &rare.dropped
            } else {
                var new: [MessageReceipt] = []
                yield &new
                if !new.isEmpty { makeRare().dropped = new }
            }
        }
    }

    mutating func takeDropped() -> [MessageReceipt] { rare == nil ? [] : swap(&dropped, with: []) }

    /// Messages that were left when the mailbox closed; a chain.
    var leftovers: UInt {
        get { rare?.leftovers ?? 0 }
        set { if rare != nil || newValue != 0 { makeRare().leftovers = newValue } }
    }

    /// Until when what is left of an async incarnation that ends may run on.
    var deadline: TimerToken? {
        get { rare?.deadline }
        set { if rare != nil || newValue != nil { makeRare().deadline = newValue } }
    }

    /// See the property of `LightProc`.
    var lostTasks: Int {
        get { rare?.lostTasks ?? 0 }
        set { if rare != nil || newValue != 0 { makeRare().lostTasks = newValue } }
    }

    /// The number of the child task that began to wait for a message last.
    var nextWaiter: Int {
        get { rare?.nextWaiter ?? 0 }
        set { makeRare().nextWaiter = newValue }
    }

    /// Waiters of child tasks that were cancelled before they began to wait.
    var cancelledWaiters: Set<Int> {
        get { rare?.cancelledWaiters ?? [] }
        _modify {
            if let rare {
                yield &rare.cancelledWaiters
            } else {
                var new: Set<Int> = []
                yield &new
                if !new.isEmpty { makeRare().cancelledWaiters = new }
            }
        }
    }
}

/// The closure that an async process runs, in a struct: taken out of an optional by itself it would be wrapped into another.
struct AsyncBody: Sendable {
    let call: nonisolated(nonsending) @Sendable (LightProc) async throws -> Void
}

/// A value in a block of its own.
private final class Boxed<Value: Sendable>: Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}

private let normalExit = Boxed(ExitReason.normal)
private let shutdownExit = Boxed(ExitReason.shutdown)

extension Boxed<ExitReason> {
    /// The usual reasons share theirs.
    static func of(_ reason: ExitReason) -> Boxed<ExitReason> {
        switch reason {
        case .normal: normalExit
        case .shutdown: shutdownExit
        case .error, .trap, .killed, .deadlineExceeded, .unresponsive, .linked, .noProcess: Boxed(reason)
        }
    }
}
