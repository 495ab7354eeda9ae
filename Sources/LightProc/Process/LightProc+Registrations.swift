// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Something to do at the end of an incarnation.
struct ExitHook: Sendable {
    let number: UInt64
    let run: @Sendable (ExitReason) -> Void
}

extension ProcSide {
    /// Takes a hook back, unless it was called or taken back before.
    func takeExitHook(_ number: UInt64) -> ExitHook? {
        content.withLock { content in
            var (low, high) = (0, content.exitHooks.count)
            // Ends: the range shrinks in each round. The numbers grow.
            while low < high {
                let middle = (low + high) / 2
                if content.exitHooks[middle].number < number { low = middle + 1 } else { high = middle }
            }
            guard low < content.exitHooks.count, content.exitHooks[low].number == number else { return nil }
            return content.exitHooks.remove(at: low)
        }
    }
}

/// A hold on something that was registered for the end of an incarnation.
///
/// It holds on to the list, not to the process: a body may keep it.
package struct ExitRegistration: @unchecked Sendable {
    // Sendable: all there is of a `ProcSide` is behind its lock; its superclass is declared not to be.
    private let side: ProcSide
    private let number: UInt64

    init(side: ProcSide, number: UInt64) {
        self.side = side
        self.number = number
    }

    /// Takes it back. Nil if it was called, or is about to be, or was taken back before.
    package func take() -> (@Sendable (ExitReason) -> Void)? { side.takeExitHook(number)?.run }
}

extension LightProc {
    /// Gives the process a name, callbacks and an observer. Before its first start.
    @usableFromInline
    package func prepare(name: String?, stack: ProcStack?, observer: (any ProcObserver)?, shutdownTime: Duration) {
        withSide { content in
            if let stack { content.setStack(stack) }
            if let name { content.name = name }
            content.observer = observer
            content.shutdownTime = shutdownTime
        }
        if let priority = stack?.priority, priority != .normal { self.priority = priority }
    }

    /// Changes how long the process may take to end, for stops, kills and traps from now on. Any thread.
    package func changeShutdownTime(to time: Duration) { withSide { $0.shutdownTime = time } }

    /// Registers a hook that runs when this incarnation ends, for whatever reason, also after a trap.
    ///
    /// Hooks run on a worker, in the name of the process, the last registered first; one that traps ends itself only. What
    /// the process owns (``own(fileDescriptor:)``) is released in the same order. Between two incarnations it registers
    /// with the next one. On one that is over the hook runs at once, on a worker, as a process of its own. Any thread.
    /// - Returns: What takes the hook back.
    @discardableResult
    public func onExit(_ hook: @escaping @Sendable (ExitReason) -> Void) -> ExitHookToken {
        onExit(of: nil, hook)
    }

    package func onExit(
        of incarnation: UInt32?,
        _ hook: @escaping @Sendable (ExitReason) -> Void
    ) -> ExitHookToken {
        ExitHookToken(registerOrRun(for: incarnation, hook))
    }

    /// Registers with an incarnation, nil for the present or next one; or calls it at once when that is over.
    func registerOrRun(
        for incarnation: UInt32?,
        _ hook: @escaping @Sendable (ExitReason) -> Void
    ) -> ExitRegistration? {
        if let registration = register(for: incarnation, hook) { return registration }
        let reason = lastExit ?? .shutdown
        // The user's code, on a thread that is perhaps none of ours: so in a process of its own.
        LightProc.runOnce(on: scheduler) { hook(reason) }
        return nil
    }

    /// Registers with an incarnation, nil for the present or next one. Nil when that is over: nothing was registered.
    func register(for incarnation: UInt32?, _ run: @escaping @Sendable (ExitReason) -> Void) -> ExitRegistration? {
        let side = self.side
        return withSide { content in
            let state = self.state
            switch state.phase {
            case .closed:
                return nil
            case .created, .ended:
                if incarnation != nil { return nil }
            case .active, .ending:
                if content.lastHooked == state.incarnation { return nil }
                if let incarnation, incarnation != state.incarnation { return nil }
            }
            content.nextExitHook += 1
            content.exitHooks.append(ExitHook(number: content.nextExitHook, run: run))
            return ExitRegistration(side: side, number: content.nextExitHook)
        }
    }

    /// Calls what was registered for the end, last registered first; each is forgotten before it is called.
    func callExitHooks(_ reason: ExitReason) {
        if existingSide == nil { return }
        while let hook = withSide({ content -> ExitHook? in
            let hook = content.exitHooks.popLast()
            // With the last one: who comes between that and the end of the incarnation is told so.
            if hook == nil { content.lastHooked = state.incarnation }
            return hook
        }) {
            hook.run(reason)
        }
    }

    /// Calls `action` with the reason once the process has ended for good; at once if it has.
    ///
    /// On any thread; must not block.
    package func whenEnded(_ action: @escaping @Sendable (ExitReason) -> Void) { whenEnded(.call(action)) }

    /// As above, for whoever that is.
    func whenEnded(_ awaiter: Awaiter) {
        let known = withSide { content -> ExitReason? in
            let phase = state.phase
            if phase == .closed || (content.observer == nil && content.lastExit != nil) {
                return content.lastExit ?? .shutdown
            }
            content.awaiters.append(awaiter)
            return nil
        }
        if let known { awaiter.tell(known) }
    }
}
