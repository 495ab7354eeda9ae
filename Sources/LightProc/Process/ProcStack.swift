// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What accompanies a process: its id, a name for humans, typed state, and callbacks over its lifecycle.
///
/// The callbacks are called by the runtime, on a worker and in the name of the process (a trap in one of them is the
/// process's own), never because somebody polls a handle:
/// - `beforeStart` once per incarnation, before the first line of the body or the first message;
/// - `afterComplete` when the process ended without a failure;
/// - `afterPanic` when it ended with an error, a trap or a kill, with the reason.
public struct ProcStack: Sendable {
    /// Something called at a point of the lifecycle, on a worker and in the name of the process.
    public typealias Callback = @Sendable () -> Void

    /// The process it accompanies; nil until it was given to one.
    public internal(set) var pid: ProcID?
    /// How logs and trap reports call the process.
    public var name: String?
    /// How long an incarnation may live, from its start on; then it is ended with ``ExitReason/deadlineExceeded(_:)``.
    ///
    /// Nil, the default: as long as it likes. It ends as by ``LightProc/kill()``: a handler that does not return is not
    /// interrupted. Costs a timer per incarnation.
    public var deadline: Duration?
    /// How urgent the process is, compared with others that are ready to run.
    public var priority: ProcPriority
    /// Called once per incarnation, before the first line of the body or the first message.
    public var beforeStart: Callback?
    /// Called when an incarnation ended without a failure: `normal` or `shutdown`.
    public var afterComplete: Callback?
    /// Called with the reason when an incarnation ended with a failure, also after a trap.
    public var afterPanic: (@Sendable (ExitReason) -> Void)?
    private var state: (any StateBox)?

    /// Creates a stack without state.
    ///
    /// - Parameters:
    ///   - deadline: How long an incarnation may live; see ``deadline``.
    ///   - priority: How urgent the process is.
    public init(name: String? = nil, deadline: Duration? = nil, priority: ProcPriority = .normal) {
        self.name = name
        self.deadline = deadline
        self.priority = priority
    }

    /// Creates a stack whose callbacks may read and change a shared state.
    ///
    /// - Parameters:
    ///   - name: A name for logs and reports.
    ///   - deadline: How long an incarnation may live; see ``deadline``.
    ///   - priority: How urgent the process is.
    ///   - state: The first value. Callbacks of one process never run at the same time.
    public init<State: Sendable>(
        name: String? = nil,
        deadline: Duration? = nil,
        priority: ProcPriority = .normal,
        state: State,
        beforeStart: (@Sendable (inout State) -> Void)? = nil,
        afterComplete: (@Sendable (inout State) -> Void)? = nil,
        afterPanic: (@Sendable (inout State, ExitReason) -> Void)? = nil
    ) {
        let box = TypedStateBox(state)
        self.name = name
        self.deadline = deadline
        self.priority = priority
        self.state = box
        if let beforeStart { self.beforeStart = { box.update { beforeStart(&$0) } } }
        if let afterComplete { self.afterComplete = { box.update { afterComplete(&$0) } } }
        if let afterPanic { self.afterPanic = { reason in box.update { afterPanic(&$0, reason) } } }
    }

    /// Returns the state if it is of this type, or nil; the type is checked.
    public func state<State: Sendable>(as type: State.Type = State.self) -> State? {
        (state as? TypedStateBox<State>)?.value
    }

    /// Whether it says nothing.
    var isEmpty: Bool { name == nil && deadline == nil && priority == .normal && isPlain }

    /// Whether destroying it runs no code of the user's.
    var isPlain: Bool { state == nil && !hasCallbacks }

    var hasCallbacks: Bool { beforeStart != nil || afterComplete != nil || afterPanic != nil }
}

private protocol StateBox: AnyObject, Sendable {}

private final class TypedStateBox<State: Sendable>: StateBox, Sendable {
    private let cell: Locked<State>
    init(_ state: State) { cell = Locked(state) }

    var value: State { cell.withLock { $0 } }

    /// Runs user code, so not under the lock: on a copy that is written back. Callbacks of one process are sequential.
    func update(_ change: (inout State) -> Void) {
        var copy = value
        change(&copy)
        let changed = copy
        // The old value is the user's: it dies outside the lock.
        _ = cell.withLock { state in
            defer { state = changed }
            return state
        }
    }
}
