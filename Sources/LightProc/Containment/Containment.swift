// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What the system does when a process traps.
public enum ContainmentPolicy: UInt8, Sendable, CaseIterable {
    /// The process ends with the trap as its reason; the rest goes on. Supervisors log one line about it.
    case contain = 0
    /// Likewise, and the report with its backtrace is logged by the system, and told to who observes ``Containment``.
    case containAndReport = 1
    /// The trap is not contained: it goes to the handler that was installed before ours (Swift's backtracer), and the
    /// program ends as it would without this library.
    case crash = 2
}

/// Something that happened to the containment of traps as a whole.
public enum ContainmentEvent: Sendable {
    /// A process whose policy is ``ContainmentPolicy/containAndReport`` trapped.
    case trapped(TrapReport)
    /// Traps have leaked more than four fifths of the budget, by estimate.
    case leakBudgetNear(LeakEstimate)
    /// Traps have leaked the whole budget, by estimate: the program should be restarted in an orderly way.
    case leakBudgetReached(LeakEstimate)
}

/// What traps have leaked so far, by estimate, and what they may.
public struct LeakEstimate: Sendable, Equatable {
    /// Bytes that belonged to processes that trapped, or whose tasks could not return before they were sealed; never freed.
    public let bytes: Int
    /// The budget, in bytes.
    public let budget: Int
}

/// The traps of the whole program: how many, what they cost, and who wants to know.
///
/// A trapped process is not unwound, so what it held is never freed. How much that is cannot be known exactly: it is
/// estimated as the part of the stack that was in use, at most 16 KiB of it; 1.5 KiB for each task that will never go on,
/// which is a task without much in it (the one that trapped, those that await it, and those that are lost when an
/// incarnation is sealed, also after a kill); and, of a reactive process, the size of its body, unless that owns nothing.
/// Objects that only these refer to are not seen; set the budget accordingly.
public enum Containment {
    /// Traps contained since the program started, in all systems.
    public static var contained: Int { ContainmentLedger.shared.contained }

    /// What they have leaked, by estimate.
    public static var leaked: LeakEstimate { ContainmentLedger.shared.leaked }

    /// Bytes that traps may leak before ``ContainmentEvent/leakBudgetReached(_:)``; 256 MiB unless set.
    ///
    /// - Precondition: Positive.
    public static var leakBudget: Int {
        get { ContainmentLedger.shared.leaked.budget }
        set { ContainmentLedger.shared.setBudget(newValue) }
    }

    /// Calls `action` for every event from now on, in order, each in a process of its own on the scheduler.
    ///
    /// Symbols of a report have been looked up when it is called. Holding on to the observation is not needed.
    @discardableResult
    public static func observe(
        on scheduler: any ProcScheduler,
        _ action: @escaping @Sendable (ContainmentEvent) -> Void
    ) -> ContainmentObservation {
        ContainmentLedger.shared.observe(on: scheduler, action)
    }
}

/// Somebody's wish to be told of events; lasts until it is taken back, or the scheduler is gone.
public struct ContainmentObservation: Sendable {
    let number: UInt64

    /// Ends it: no call begins after this returns. Any thread.
    public func cancel() { ContainmentLedger.shared.forget(number) }
}
