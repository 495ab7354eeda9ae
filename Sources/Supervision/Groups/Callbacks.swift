// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// What is called around the starts and after the end of each member of a group, or of a supervisor's children together.
///
/// Of a member they run on a worker, in its name:
///
/// | when | called |
/// |---|---|
/// | the first start | `beforeStart`, the member is made, `afterStart` |
/// | every other start, after whatever end | `beforeRestart`, the member is made anew, `afterRestart` |
/// | it is not started again, whatever the reason | `afterStop`, once |
///
/// Nothing is called in the place of one that is missing, and nothing for anybody but the members. Between an end and
/// `beforeRestart` lies the backoff; who is stopped meanwhile gets `afterStop` instead. A trap in one of the first four is the
/// member's: that start has failed, as if the member itself had trapped. A trap in `afterStop` ends that call, and no more.
///
/// Of a supervisor `beforeStart` is called before its first child starts, `afterStart` when each of them has started once,
/// `afterStop` when all have ended; the others never: a supervisor is not restarted by itself. Each runs in a process of its own;
/// a trap there ends that call only, is told in the log, and what was to come next comes.
///
/// They hold things up: the start of the member or the supervisor, and the stop, which waits for `afterStop` as long as the member, or the
/// child that the supervisor is or belongs to, may take to stop; of a supervisor at the top for ever. A limit to a start limits them, too. They
/// must not block for longer than a handler may. A supervisor that is stopped before its `beforeStart` has returned does not wait for it: its
/// `afterStop` may run beside it.
public struct Callbacks: Sendable {
    /// One of them.
    public typealias Callback = @Sendable (Occasion) -> Void

    /// What a callback is called for.
    public struct Occasion: Sendable {
        /// The member; nil for a supervisor.
        public let process: ProcID?
        /// What it is called.
        public let name: String
        /// Where it stands in the tree of supervisors, as in `/shop/orders-3`.
        public let path: String
        /// How the incarnation before ended; nil around the first start.
        public let reason: ExitReason?
        /// How many times it was restarted, the restart that this is called around included.
        public let restarts: Int

        /// How the incarnation before failed: the error, trap or kill, the message that was being handled, how often in a row; nil if it did not, and
        /// of a supervisor.
        public let failure: ChildFailure?
    }

    /// Called before the first start.
    public var beforeStart: Callback?
    /// Called when it has started for the first time: a reactive member was made, an async one's body comes next, or has called
    /// ``Context/ready()`` if the group says so (``Children/signalsReady()``).
    public var afterStart: Callback?
    /// Called before every other start, with the reason of the end before.
    public var beforeRestart: Callback?
    /// Called when it has started again, with the same reason.
    public var afterRestart: Callback?
    /// Called when it has ended and is not started again, with the reason.
    public var afterStop: Callback?

    /// Creates a set of callbacks; what is not given is not called, nor anything in its place.
    public init(
        beforeStart: Callback? = nil,
        afterStart: Callback? = nil,
        beforeRestart: Callback? = nil,
        afterRestart: Callback? = nil,
        afterStop: Callback? = nil
    ) {
        self.beforeStart = beforeStart
        self.afterStart = afterStart
        self.beforeRestart = beforeRestart
        self.afterRestart = afterRestart
        self.afterStop = afterStop
    }

    var hasStartCallbacks: Bool {
        beforeStart != nil || afterStart != nil || beforeRestart != nil || afterRestart != nil
    }
}

extension Callbacks.Occasion {
    init(_ proc: LightProc, reason: ExitReason?) {
        self.init(
            process: proc.id,
            name: proc.name ?? "",
            path: proc.path ?? "",
            reason: reason,
            restarts: proc.restarts,
            failure: reason?.isFailure == true ? proc.record?.lastFailure : nil
        )
    }
}

extension Children {
    /// Has these called around the starts and after the end of each member; see ``Callbacks`` for what is called when.
    public func callbacks(_ callbacks: Callbacks) -> Children {
        var children = self
        children.features.callbacks = callbacks
        return children
    }

    /// Says when an async member has started: when it calls ``Context/ready()``, not as soon as its body begins.
    ///
    /// Who waits for the start then waits for that; a member that ends before has failed to start. Without effect on reactive
    /// members, which have started when they were made.
    public func signalsReady() -> Children {
        var children = self
        children.features.signalsReady = true
        return children
    }
}
