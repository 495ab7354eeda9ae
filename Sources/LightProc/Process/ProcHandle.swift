// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import Synchronization

/// A hold on a process: learn how it ended, or end it. Dropping the handle detaches; the process goes on.
@frozen
public struct ProcHandle: Sendable {
    /// The process that is held on to.
    public let proc: LightProc

    /// Creates a hold on a process, in whatever state that is.
    @inlinable
    public init(_ proc: LightProc) { self.proc = proc }

    /// The identity of the process.
    public var id: ProcID { proc.id }

    /// What accompanies the process; its state can be read at any time.
    public var stack: ProcStack? { proc.stack }

    /// Waits until the process has ended for good and returns how.
    ///
    /// Returns at once when it has, and as soon as the end is decided when it has not: also when it trapped.
    ///
    /// Inlined, as each async function that is called costs a switch of executors when it returns.
    @inlinable @inline(__always)
    nonisolated(nonsending) public func exit() async -> ExitReason {
        await suspended { proc.resumeWhenEnded($0) }
    }

    /// Asks the process to end; see ``LightProc/stop()``.
    public func cancel() { proc.stop() }

    /// Ends the process; see ``LightProc/kill()``.
    public func kill() { proc.kill() }
}

/// A hold on a process that computes a value.
@frozen
public struct RecoverableHandle<Output: Sendable>: Sendable {
    /// How a process that computes a value ended.
    @frozen
    public enum Outcome: Sendable {
        /// The closure returned this value.
        case finished(Output)
        /// It ended without a value: error, trap, kill, or shutdown.
        case failed(ExitReason)

        /// The value; throws a ``ProcFailure`` when there is none.
        public func get() throws(ProcFailure) -> Output {
            switch self {
            case .finished(let output): output
            case .failed(let reason): throw ProcFailure(reason: reason)
            }
        }
    }

    /// The hold on the process behind the value.
    public let handle: ProcHandle
    // Shared by threads: written once, and read when its word says so.
    @usableFromInline nonisolated(unsafe) let box: OutputBox<Output>

    @inlinable
    init(handle: ProcHandle, box: OutputBox<Output>) {
        self.handle = handle
        self.box = box
    }

    /// The identity of the process that computes the value.
    public var id: ProcID { handle.id }

    /// Waits until the process has ended and returns its value, or why there is none.
    @inlinable @inline(__always)
    nonisolated(nonsending) public func outcome() async -> Outcome {
        let reason = await handle.exit()
        return box.output.map(Outcome.finished) ?? .failed(reason)
    }

    /// Asks the process to end; see ``LightProc/stop()``.
    public func cancel() { handle.cancel() }

    /// Ends the process; see ``LightProc/kill()``.
    public func kill() { handle.kill() }
}

/// A process ended without the value that was asked of it.
public struct ProcFailure: Error, CustomStringConvertible {
    /// How the process ended.
    public let reason: ExitReason
    /// Creates the error for a process that ended for this reason.
    public init(reason: ExitReason) { self.reason = reason }
    /// One line that names the reason.
    public var description: String { "the process ended without a value: \(reason)" }
}

/// Where the value is put, once: behind a word that says whether it is there.
///
/// Not an optional: the `deinit` of a generic class looks up the metadata of those each time.
@usableFromInline
final class OutputBox<Output: Sendable>: ManagedBuffer<UInt, Output> {
    @inlinable
    static func make() -> OutputBox { unsafeDowncast(create(minimumCapacity: 1) { _ in 0 }, to: OutputBox.self) }

    @inlinable
    deinit {
        if isSet { withUnsafeMutablePointerToElements { _ = $0.deinitialize(count: 1) } }
    }

    @inlinable
    var isSet: Bool {
        // ordering: acquiring: pairs with the store in `set`; publishes the value.
        withWord { $0.load(ordering: .acquiring) != 0 }
    }

    /// By the process, once.
    @inlinable
    func set(_ output: Output) {
        withUnsafeMutablePointerToElements { $0.initialize(to: output) }
        // ordering: releasing: pairs with the load in `isSet`; publishes the value.
        withWord { $0.store(1, ordering: .releasing) }
    }

    /// The value; nil while there is none. Any thread.
    @inlinable
    var output: Output? { isSet ? withUnsafeMutablePointerToElements { $0.pointee } : nil }

    @inlinable @inline(__always)
    func withWord<Result>(_ body: (borrowing AtomicWord) -> Result) -> Result {
        withUnsafeMutablePointerToHeader {
            // safety: an atomic is laid out as its value, and the word is accessed in no other way once the box is made.
            body(UnsafeRawPointer($0).assumingMemoryBound(to: AtomicWord.self).pointee)
        }
    }
}

extension LightProc {
    /// Makes an async process that computes a value, whatever happens to it. It runs once, from `restart()` on.
    @inlinable
    public static func recoverable<Output: Sendable>(
        on scheduler: any ProcScheduler,
        stack: ProcStack = ProcStack(),
        _ main: nonisolated(nonsending) @escaping @Sendable () async throws -> Output
    ) -> (LightProc, RecoverableHandle<Output>) {
        defer { extendLifetime(scheduler) }
        nonisolated(unsafe) let box = OutputBox<Output>.make()
        let proc = once(on: SchedulerWords(scheduler), stack) { _ in box.set(try await main()) }
        return (proc, RecoverableHandle(handle: ProcHandle(proc), box: box))
    }

    @usableFromInline
    func resumeWhenEnded(_ continuation: UnsafeContinuation<ExitReason, Never>) {
        whenEnded(.continuation(continuation))
    }
}

extension LightProc {
    /// Makes a process that runs a closure which may block its thread. It runs once, from `restart()` on.
    public static func recoverableBlocking<Output: Sendable>(
        on scheduler: any ProcScheduler,
        stack: ProcStack = ProcStack(),
        _ main: @escaping @Sendable () throws -> Output
    ) -> (LightProc, RecoverableHandle<Output>) {
        nonisolated(unsafe) let box = OutputBox<Output>.make()
        let proc = LightProc.reactive(on: scheduler) {
            OneShot {
                let output = try main()
                box.set(output)
            }
        }
        proc.prepare(name: nil, stack: stack, observer: nil, shutdownTime: .seconds(5))
        _ = proc.push(MessageNode.make(()))
        return (proc, RecoverableHandle(handle: ProcHandle(proc), box: box))
    }

    /// Calls `action` with the reason once the process has ended for good; at once if it has. On any thread; must not block.
    package func notifyWhenEnded(_ action: @escaping @Sendable (ExitReason) -> Void) { whenEnded(action) }
}

extension LightProc {
    /// Runs a closure on the scheduler as a process of its own, that nobody waits for.
    ///
    /// For callbacks: a trap in one ends nothing but itself.
    @usableFromInline
    package static func runOnce(on scheduler: any ProcScheduler, _ work: @escaping @Sendable () -> Void) {
        // Nobody waits for its end, so it has none: it is gone when it has run.
        let proc = LightProc.reactive(OneShot(ends: false, work), on: scheduler)
        _ = proc.push(MessageNode.make(()))
    }

    /// As above; `whenEnded` is called when the closure has run or has trapped, on a worker.
    package static func runOnce(
        on scheduler: any ProcScheduler,
        _ work: @escaping @Sendable () -> Void,
        whenEnded: @escaping @Sendable () -> Void
    ) {
        let proc = LightProc.reactive(OneShot(work), on: scheduler)
        proc.notifyWhenEnded { _ in whenEnded() }
        _ = proc.push(MessageNode.make(()))
    }
}

/// Calls an action for one value after the other, in the order in which they came, each time in a process of its own: a trap
/// costs that value, no other.
package final class OrderedCalls<Value: Sendable>: Sendable {
    private struct State {
        var waiting: [Value] = []
        var isCalling = false
    }
    private let state = Locked(State())
    private let action: @Sendable (Value) -> Void

    package init(_ action: @escaping @Sendable (Value) -> Void) { self.action = action }

    /// Returns at once; any thread.
    package func call(_ value: Value, on scheduler: any ProcScheduler) {
        let isFirst = state.withLock { state in
            state.waiting.append(value)
            defer { state.isCalling = true }
            return !state.isCalling
        }
        if isFirst { next(on: scheduler) }
    }

    private func next(on scheduler: any ProcScheduler) {
        let value = state.withLock { state -> Value? in
            if state.waiting.isEmpty {
                state.isCalling = false
                return nil
            }
            return state.waiting.removeFirst()
        }
        guard let value else { return }
        LightProc.runOnce(on: scheduler) { [action] in
            action(value)
        } whenEnded: { [self] in
            next(on: scheduler)
        }
    }
}

/// A reactive process that does one thing and ends.
private struct OneShot: ReactiveBody {
    private var work: (@Sendable () throws -> Void)?
    private let ends: Bool

    init(ends: Bool = true, _ work: @escaping @Sendable () throws -> Void) {
        self.ends = ends
        self.work = work
    }

    mutating func receive(_ message: consuming Void, on proc: LightProc) throws {
        defer {
            // What the closure owns is destroyed here, in the name of this process.
            work = nil
            if ends { proc.finish() }
        }
        try work?()
    }

    /// Once it has run nothing is left of it.
    static var isPlain: Bool { true }
}

extension RecoverableHandle {
    /// The outcome of a process that has ended.
    public var knownOutcome: Outcome {
        if let output = box.output { return .finished(output) }
        return .failed(handle.proc.lastExit ?? .shutdown)
    }
}
