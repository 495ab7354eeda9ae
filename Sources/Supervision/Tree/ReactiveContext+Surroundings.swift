// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc
public import Logging

extension ReactiveContext {
    /// What this process is called, as in `worker-0`; empty if nobody named it. Costs a lock.
    public var name: String { proc.name ?? "" }

    /// Where this process stands in the tree of supervisors, as in `/shop/orders-3`; empty if nobody supervises it.
    public var path: String { proc.path ?? "" }

    /// How many times this process was restarted before.
    public var restarts: Int { proc.restarts }

    /// The system that this process lives in; nil for one that nobody supervises.
    public var system: BastionSystem? { proc.system }

    /// The system's log, with this process's name and path; for one that nobody supervises, a log labelled `process`.
    public var log: Logger {
        if let system = proc.system { return system.log(of: proc) }
        var log = Logger(label: "process")
        log[metadataKey: "process"] = "\(proc)"
        return log
    }

    /// When the answer to the message in hand is too late; nil if that is no ask.
    public var deadlineOfMessage: Deadline? { proc.deadlineInHand.map { Deadline(instant: $0) } }
}

extension Context {
    /// When the answer to the message that was received last is too late; nil if that is no ask.
    public var deadlineOfMessage: Deadline? { proc.deadlineInHand.map { Deadline(instant: $0) } }

    /// Lets others that are ready have their turn.
    public func yield() async { await Task.yield() }
}

extension BastionSystem {
    /// The log, with a process's name and path.
    func log(of proc: LightProc) -> Logger {
        var log = self.log
        log[metadataKey: "process"] = "\(proc)"
        if let path = proc.path { log[metadataKey: "path"] = "\(path)" }
        return log
    }
}
