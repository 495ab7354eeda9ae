// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

extension Children {
    /// Makes the members significant: when one has ended by itself and is not restarted, its supervisor may shut itself down.
    ///
    /// See ``AutoShutdown``; for transient and temporary children.
    public func significant(_ isSignificant: Bool = true) -> Children {
        var children = self
        children.features.isSignificant = isSignificant
        return children
    }

    /// Limits how long a start may take: until a reactive member was made, an async one's body begins or has called
    /// ``Context/ready()``, as the group says (``signalsReady()``). Who takes longer is ended, and has failed to start.
    ///
    /// One that nothing can end, as its thread does not come back, is started again, or not, when it has ended all the same. Under ``RestartStrategy/oneForOne``
    /// those behind it start as soon as that is clear; where they share its fate they wait.
    public func startsWithin(_ time: Duration) -> Children {
        var children = self
        children.features.startDeadline = time
        return children
    }

    /// Limits how many times each member is restarted, whatever the supervisor's intensity. A failure after that is its end, and the
    /// supervisor goes on.
    public func restartedAtMost(_ times: Int) -> Children {
        var children = self
        children.features.restartLimit = times
        return children
    }
}

extension SupervisorMachine.Settings {
    convenience init(_ spec: Children) {
        self.init(
            restart: spec.restart,
            backoff: spec.backoff,
            isSignificant: spec.features.isSignificant,
            startsUnseen: spec.features.startsUnseen,
            startDeadline: spec.features.startDeadline,
            restartLimit: spec.features.restartLimit,
            hasFarewell: spec.features.callbacks?.afterStop != nil
        )
    }

    /// These, but for what a process does that was made with others, whatever was changed since.
    func ofProcess(madeWith others: SupervisorMachine.Settings) -> SupervisorMachine.Settings {
        if hasFarewell == others.hasFarewell { return self }
        return SupervisorMachine.Settings(
            restart: restart,
            backoff: backoff,
            isSignificant: isSignificant,
            startsUnseen: startsUnseen,
            startDeadline: startDeadline,
            restartLimit: restartLimit,
            hasFarewell: others.hasFarewell
        )
    }
}

extension StartError {
    init(timeoutOf child: ChildRecord) {
        self.init(
            code: .timeout,
            child: child.name,
            path: child.path(of: child.proc) ?? child.name,
            reason: nil
        )
    }
}
