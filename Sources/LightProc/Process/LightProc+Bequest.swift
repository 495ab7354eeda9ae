// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A value on its way to the process that destroys it.
protocol Bequest: AnyObject, Sendable {
    /// Destroys the value, here and now.
    func destroy()
}

/// The ``Bequest`` of a value of one type.
@usableFromInline
final class LastBody<Body>: Bequest, @unchecked Sendable {
    // Sendable: nobody reads it; it is destroyed once, by who was sent it, or else by whoever holds the last reference.
    @usableFromInline var body: Body?
    @inlinable
    init(_ body: consuming Body) { self.body = body }

    /// Not left to the last reference: who made the process may let go of it after that has run.
    @usableFromInline
    func destroy() { body = nil }
}

/// What a process leaves behind is the user's in part, and may trap as it dies: messages, hooks, the body, callbacks, errors.
/// It dies in processes of its own, on workers: whoever happens to let go of it is not to answer for it. What runs no code of
/// the user's dies on the spot.
extension LightProc {
    /// Destroys a value in a process of its own.
    @inlinable
    static func bequeath<Value>(_ last: LastBody<Value>, on scheduler: any ProcScheduler) {
        LightProc.runOnce(on: scheduler) { last.destroy() }
    }

    /// Opens a node, and has its message destroyed elsewhere.
    @inlinable @inline(never)
    static func bequeath<Message>(_ node: MessageNode, as type: Message.Type, on scheduler: any ProcScheduler) {
        if _isPOD(Message.self) {
            _ = node.open(as: Message.self)
            return
        }
        let last = LastBody<Message>(node.open(as: Message.self).message)
        bequeath(last, on: scheduler)
    }

    /// The last reference goes: everything that is left is handed on, except the body.
    ///
    /// - Parameter messages: What was in the mailbox, a chain.
    @inline(never)
    final func bequeath(_ messages: UInt) {
        let left = existingSide == nil ? nil : withSide { $0.takeRemains(before: messages) }
        var node = MessageNode(bits: left?.messages ?? messages)
        while let current = node {
            node = MessageNode(bits: current.next)
            current.takeReceipt()?.processEnded(left?.reason ?? .shutdown)
            try? step(.bequeath(current))
        }
        guard let left else { return }
        if !left.hooks.isEmpty { bequeath(left.hooks, of: left.name) }
        left.companion?.closed(nil, id, reason: left.reason ?? .shutdown)
        if let rest = left.rest { Self.bequeath(rest, on: scheduler) }
    }

    /// What was registered for an end that nobody decided is called in a process of its own, of the same name.
    private func bequeath(_ hooks: [ExitHook], of name: String?) {
        let heir = LightProc.reactive(Heir(), on: scheduler)
        heir.prepare(name: name, stack: nil, observer: nil, shutdownTime: .zero)
        heir.withSide { $0.exitHooks = hooks }
        heir.stop()
    }
}

/// A process that only ends.
private struct Heir: ReactiveBody {
    mutating func receive(_ message: consuming Never, on proc: LightProc) {}
}

extension ProcSide.Content {
    /// What is left of a process that is gone.
    struct Remains {
        var messages: UInt
        var reason: ExitReason?
        var hooks: [ExitHook] = []
        var name: String?
        /// Of a process that was not closed before.
        var companion: (any ProcCompanion)?
        /// Nil where nothing is left that could run code as it dies.
        var rest: LastBody<ProcSide.Content>?
    }

    /// Takes everything out, except what the process still needs to destroy messages and body. Once, when the process goes.
    /// Nil if there is nothing.
    mutating func takeRemains(before messages: UInt) -> Remains? {
        if isPlain, exitHooks.isEmpty, companion == nil, messages == 0, control.isEmpty, extras == nil { return nil }
        var remains = Remains(messages: takeMessages(before: messages))
        remains.reason = lastExit
        remains.name = name
        remains.hooks = swap(&exitHooks, with: [])
        remains.companion = swap(&companion, with: nil)
        if !isPlain {
            let (step, opener) = (step, opener)
            remains.rest = LastBody(swap(&self, with: Self()))
            (self.step, self.opener) = (step, opener)
        }
        return remains
    }

    var hasClosures: Bool { main != nil || factory != nil }

    /// Takes the closures out of which incarnations are made.
    mutating func takeClosures() -> Closures {
        Closures(main: swap(&main, with: nil), factory: swap(&factory, with: nil))
    }

    /// What incarnations are made of.
    struct Closures {
        let main: AsyncBody?
        let factory: (any AnyObject & Sendable)?
    }

    /// Whether destroying this runs no code of the user's, hooks and messages aside.
    private var isPlain: Bool {
        !hasClosures && task == nil && awaiters.isEmpty && receipts.isEmpty
            && farewells.isEmpty && dropped.isEmpty && lastObserver == nil && hasPlainExit && hasPlainStack
            && lifetime?.outsideReason?.isPlain ?? true
    }
}

extension ExitReason {
    /// Whether destroying it runs no code of the user's, as an error's `deinit` may.
    var isPlain: Bool {
        func isPlain<Actual>(_ error: Actual) -> Bool { _isPOD(Actual.self) }
        switch self {
        case .normal, .shutdown, .killed, .deadlineExceeded, .unresponsive, .trap, .noProcess: return true
        // Not called directly: `any Error` is itself an error, so that it would not be opened.
        case .error(let error): return _openExistential(error, do: isPlain)
        case .linked(_, let reason): return reason.isPlain
        }
    }
}
