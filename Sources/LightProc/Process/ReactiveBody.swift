// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import CLightProc
public import Synchronization

/// The behaviour of a reactive process: state, and a handler that runs to completion for every message.
///
/// The handler runs on a worker, one message at a time; it must not block. What it throws ends the process.
public protocol ReactiveBody {
    /// The type of the messages that the process takes.
    associatedtype Message: Sendable
    /// Handles one message; called on a worker, never by two threads at a time.
    mutating func receive(_ message: consuming Message, on proc: LightProc) throws
    /// Whether destroying a body runs no code that could trap, so that it may be done on any thread.
    static var isPlain: Bool { get }
    /// Something besides messages has happened, of which the layer above knows the meaning. As `receive`.
    mutating func signalled(_ signal: UInt, on proc: LightProc) throws
}

extension ReactiveBody {
    /// Does nothing.
    @inlinable
    public mutating func signalled(_ signal: UInt, on proc: LightProc) throws {}

    /// True for a body that owns nothing: no class, array, string or closure.
    @inlinable
    public static var isPlain: Bool { _isPOD(Self.self) }
}

/// Room for the body of a reactive process inside the process object: four words, and eight more in a ``RoomyProc``.
///
/// A body that fits costs no allocation of its own; a larger one is allocated and pointed to from here.
/// The words are atomics because those stay where they are; they are never accessed as such.
@frozen @usableFromInline
struct BodySlot: ~Copyable {
    @usableFromInline let word0 = AtomicWord(0)
    @usableFromInline let word1 = AtomicWord(0)
    @usableFromInline let word2 = AtomicWord(0)
    @usableFromInline let word3 = AtomicWord(0)

    @inlinable
    init() {}

    /// Where the slot lies. Valid as long as the process object.
    @inlinable @inline(__always)
    var address: UnsafeMutableRawPointer {
        // safety: a stored property of a class that cannot be moved out of it does not change its place.
        withUnsafePointer(to: self) { UnsafeMutableRawPointer(mutating: UnsafeRawPointer($0)) }
    }
}

/// Where a body of one type is kept: nil while there is none.
@frozen @usableFromInline
enum BodyStorage<Body> {
    @inlinable @inline(__always)
    static var isInline: Bool { fits(3 * MemoryLayout<BodySlot>.size) }

    /// Whether it needs a ``RoomyProc`` to be inline.
    @inlinable @inline(__always)
    static var isRoomy: Bool { isInline && !fits(MemoryLayout<BodySlot>.size) }

    @inlinable @inline(__always)
    static func fits(_ size: Int) -> Bool {
        MemoryLayout<Body?>.size <= size && MemoryLayout<Body?>.alignment <= MemoryLayout<BodySlot>.alignment
    }

    @inlinable @inline(__always)
    static func pointer(_ slot: borrowing BodySlot) -> UnsafeMutablePointer<Body?> {
        // safety: initialised by `initialize` at the process's birth, of this type until `release`.
        isInline
            ? slot.address.assumingMemoryBound(to: Body?.self)
            : slot.address.load(as: UnsafeMutablePointer<Body?>.self)
    }

    @inlinable
    static func initialize(_ slot: borrowing BodySlot, to body: consuming Body?) {
        if isInline {
            slot.address.bindMemory(to: Body?.self, capacity: 1).initialize(to: body)
        } else {
            let cell = UnsafeMutablePointer<Body?>.allocate(capacity: 1)
            cell.initialize(to: body)
            slot.address.storeBytes(of: cell, as: UnsafeMutablePointer<Body?>.self)
        }
    }

    @inlinable
    static func release(_ slot: borrowing BodySlot) {
        let cell = pointer(slot)
        cell.deinitialize(count: 1)
        if !isInline { cell.deallocate() }
    }
}

/// Destroys a value here and not earlier: the optimiser may otherwise move a release above the stores before it.
@usableFromInline @inline(never) @_optimize(none)
func destroyLast<Value>(_ value: consuming Value) {}

/// Makes bodies; kept beside the process, as only one that is restarted needs it.
@usableFromInline
final class BodyFactory<Body>: Sendable {
    @usableFromInline let make: @Sendable () throws -> Body
    @inlinable
    init(_ make: @escaping @Sendable () throws -> Body) { self.make = make }
}

extension LightProc {
    /// Messages and sends that one run may spend before others get their turn.
    @inlinable static var reductions: Int32 { @inline(__always) get { 256 } }

    /// Spends what is left of the calling worker's turn: the process that it runs is queued again after the message in
    /// hand. Does nothing on a thread that is no worker.
    @inlinable @inline(__always)
    package static func endTurn() {
        if let nodes = crt_nodes() { NodePool.setBudget(nodes, 0) }
    }

    /// Gives the calling worker what one turn may spend. Does nothing on a thread that is no worker.
    @inline(__always)
    package static func beginTurn() {
        if let nodes = crt_nodes() { NodePool.beginTurn(nodes) }
    }

    /// Counts a message that was received in the calling worker's turn, or sent without a node. Does nothing on a thread that is
    /// no worker.
    @inline(__always)
    package static func spendReduction() {
        if let nodes = crt_nodes() { nodes.pointee.meter &-= 1 }
    }

    /// Whether something is left of the calling worker's turn. True on a thread that is no worker.
    package static var mayGoOn: Bool { crt_nodes().map { NodePool.budget($0) > 0 } ?? true }

    /// Makes a reactive process that lives at once and cannot be restarted.
    @inlinable
    public static func reactive<Body: ReactiveBody>(
        _ body: consuming sending Body,
        on scheduler: any ProcScheduler
    ) -> LightProc {
        defer { extendLifetime(scheduler) }
        return reactive(body, on: SchedulerWords(scheduler))
    }

    /// As above, for a caller who holds the scheduler.
    @inlinable
    package static func reactive<Body: ReactiveBody>(
        _ body: consuming sending Body,
        on scheduler: SchedulerWords
    ) -> LightProc {
        let proc = makeReactive(on: scheduler, isAlive: true, Body.self)
        BodyStorage<Body>.initialize(proc.slot, to: body)
        return proc
    }

    /// Makes a reactive process whose body is made by `make` at every start. It is down until `restart()`.
    @inlinable
    public static func reactive<Body: ReactiveBody>(
        on scheduler: any ProcScheduler,
        make: @escaping @Sendable () throws -> Body
    ) -> LightProc { reactive(on: scheduler, BodyFactory(make)) }

    /// What makes reactive processes like that, any number, which share what makes their bodies. It holds the scheduler.
    @inlinable
    package static func reactiveMaker<Body: ReactiveBody & SendableMetatype>(
        on scheduler: any ProcScheduler,
        make: @escaping @Sendable () throws -> Body
    ) -> @Sendable () -> LightProc {
        let factory = BodyFactory(make)
        return { reactive(on: scheduler, factory) }
    }

    @inlinable
    static func reactive<Body: ReactiveBody>(on scheduler: any ProcScheduler, _ factory: BodyFactory<Body>) -> LightProc
    {
        let proc = withExtendedLifetime(scheduler) {
            makeReactive(on: SchedulerWords(scheduler), isAlive: false, Body.self)
        }
        BodyStorage<Body>.initialize(proc.slot, to: nil)
        proc.factory = factory
        return proc
    }

    /// One that is down is busy: whoever starts it is its consumer until then.
    @inlinable @inline(__always)
    static func makeReactive<Body: ReactiveBody>(
        on scheduler: SchedulerWords,
        isAlive: Bool,
        _ type: Body.Type
    ) -> LightProc {
        BodyStorage<Body>.isRoomy
            ? RoomyProc(
                scheduler: scheduler,
                isReactive: true,
                isBusy: !isAlive,
                isAlive: isAlive,
                step: { try reactiveStep($0, $1, Body.self) }
            )
            : LightProc(
                scheduler: scheduler,
                isReactive: true,
                isBusy: !isAlive,
                isAlive: isAlive,
                step: { try reactiveStep($0, $1, Body.self) }
            )
    }

    /// The ``BodyFactory`` of a process that can be restarted.
    @usableFromInline
    var factory: (any AnyObject & Sendable)? {
        get { existingSide?.content.withLock { $0.factory } }
        set { withSide { $0.factory = newValue } }
    }

    /// The generic part: a run at once, everything else apart, so that a run passes by no table and saves few registers.
    @inlinable @inline(__always)
    static func reactiveStep<Body: ReactiveBody>(
        _ proc: LightProc,
        _ operation: ProcOperation,
        _ type: Body.Type
    ) throws {
        guard case .run = operation else { return try reactiveStepBesides(proc, operation, type) }
        let cell = BodyStorage<Body>.pointer(proc.slot)
        guard let nodes = crt_nodes() else { return try runOffPool(proc, cell) }
        proc.settle(on: nodes)
        NodePool.trim(nodes)
        NodePool.beginTurn(nodes)
        var rest = proc.mailbox.rest
        while NodePool.budget(nodes) > 0, let node = proc.mailbox.take(&rest) {
            if node.isPlain {
                try cell.pointee!.receive(node.openPlain(as: Body.Message.self, on: nodes), on: proc)
            } else {
                try handle(node, proc, cell, on: nodes)
            }
            if proc.orders.hasSome { return }
        }
    }

    /// The generic part, but for a run.
    @inlinable @inline(never)
    static func reactiveStepBesides<Body: ReactiveBody>(
        _ proc: LightProc,
        _ operation: ProcOperation,
        _ type: Body.Type
    ) throws {
        let cell = BodyStorage<Body>.pointer(proc.slot)
        switch operation {
        case .run: preconditionFailure("impossible: a run is not among the rest")
        case .start:
            guard let factory = proc.factory as? BodyFactory<Body> else {
                preconditionFailure("a process that was spawned from a value cannot be restarted; give it a factory")
            }
            cell.pointee = try factory.make()
        case .destroy:
            // Out of its place first: a body whose `deinit` traps is not destroyed a second time.
            let last = cell.move()
            cell.initialize(to: nil)
            destroyLast(last)
        case .abandon:
            // Overwritten, not assigned: assigning would destroy the old value.
            cell.initialize(to: nil)
        case .measure(let size):
            if !_isPOD(Body.self) { size.pointee = MemoryLayout<Body>.size }
        case .discard(let node):
            if node.isNotice { _ = node.open(as: Notice.self) } else { _ = node.open(as: Body.Message.self) }
        case .handle(let node):
            try handle(node, proc, cell)
        case .signal(let signal):
            try cell.pointee!.signalled(signal, on: proc)
        case .bequeath(let node):
            if node.isNotice {
                _ = node.open(as: Notice.self)
            } else {
                bequeath(node, as: Body.Message.self, on: proc.scheduler)
            }
        case .release:
            // Whoever let go of the last reference is not to answer for the `deinit`s of what the body owns.
            if !Body.isPlain, let last = packLast(cell) { bequeath(last, on: proc.scheduler) }
            BodyStorage<Body>.release(proc.slot)
        case .describe(let type):
            type.pointee = Body.Message.self
        }
    }

    /// Moves a body out of its place into an object; nil if there is none.
    ///
    /// Apart, so that nothing of the body is left in the caller's frame.
    @inlinable @inline(never)
    static func packLast<Body: ReactiveBody>(_ cell: UnsafeMutablePointer<Body?>) -> LastBody<Body>? {
        guard cell.pointee != nil else { return nil }
        // Moved as it is: a name for it would hold on to it until the end of the scope.
        let last = LastBody<Body>(cell.move()!)
        cell.initialize(to: nil)
        return last
    }

    /// Handles what lies in a node, of the control lane or on a thread without a pool. Apart, so that the loop of the user
    /// lane stays small.
    @inlinable @inline(never)
    static func handle<Body: ReactiveBody>(
        _ node: MessageNode,
        _ proc: LightProc,
        _ cell: UnsafeMutablePointer<Body?>
    ) throws {
        if node.isNotice { return try handle(node.open(as: Notice.self).message, proc, cell) }
        let (message, receipt) = node.open(as: Body.Message.self)
        guard let receipt else { return try cell.pointee!.receive(message, on: proc) }
        proc.accept(receipt)
        try cell.pointee!.receive(message, on: proc)
        proc.askWasHandled()
    }

    /// Handles an ask or a notice. Apart, as above. If the handler throws, the end of the incarnation forgets the ask in hand.
    @inlinable @inline(never)
    static func handle<Body: ReactiveBody>(
        _ node: MessageNode,
        _ proc: LightProc,
        _ cell: UnsafeMutablePointer<Body?>,
        on nodes: UnsafeMutablePointer<crt_nodePool>
    ) throws {
        if node.isNotice { return try handle(node.open(as: Notice.self, on: nodes).message, proc, cell) }
        let (message, receipt) = node.open(as: Body.Message.self, on: nodes)
        proc.accept(receipt)
        try cell.pointee!.receive(message, on: proc)
        proc.askWasHandled()
    }

    /// Handles the message that a notice stands for, if it still does.
    @inlinable
    static func handle<Body: ReactiveBody>(
        _ notice: Notice,
        _ proc: LightProc,
        _ cell: UnsafeMutablePointer<Body?>
    ) throws {
        guard let message = notice.message(for: proc), let message = message as? Body.Message else { return }
        try cell.pointee!.receive(message, on: proc)
    }

    /// The same loop for a thread without a node pool: the seeded executor's.
    @inlinable
    static func runOffPool<Body: ReactiveBody>(
        _ proc: LightProc,
        _ cell: UnsafeMutablePointer<Body?>
    ) throws {
        var budget = reductions
        while budget > 0, let node = proc.mailbox.take() {
            budget &-= 1
            try handle(node, proc, cell)
            if proc.orders.hasSome { return }
        }
    }
}
