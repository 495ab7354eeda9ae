// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor

/// What is to go wrong in a simulation: a value, applied without a change of the code under test.
///
/// ```swift
/// let faults: FaultPlan = [
///     .trap("worker-1", atMessage: 3),
///     .refuseToStart("database", times: 2),
///     .randomTrap(.everyone, probability: 0.01),
/// ]
/// ```
public struct FaultPlan: Sendable, ExpressibleByArrayLiteral {
    /// The faults; of several that would strike the same message, the first does.
    public var faults: [Fault]

    /// Creates a plan of these faults.
    public init(_ faults: [Fault] = []) { self.faults = faults }

    /// Creates a plan of these faults.
    public init(arrayLiteral faults: Fault...) { self.faults = faults }
}

/// Whom a fault strikes. A string literal is a name.
public struct FaultTarget: Sendable, ExpressibleByStringLiteral {
    enum Kind: Sendable {
        case everyone
        case name(String)
        case type(ObjectIdentifier)
    }
    let kind: Kind

    /// Every child and every spawned process of the system; supervisors and probes are spared.
    public static let everyone = FaultTarget(kind: .everyone)

    /// A child by its path (`/shop/worker-1`) or name (`worker-1`), or all members of a group (`worker`).
    public static func child(_ name: String) -> FaultTarget { FaultTarget(kind: .name(name)) }

    /// Whoever is about to handle a message of this type.
    public static func messages<Message: Sendable>(of type: Message.Type) -> FaultTarget {
        FaultTarget(kind: .type(ObjectIdentifier(type)))
    }

    private init(kind: Kind) { self.kind = kind }

    /// As ``child(_:)``.
    public init(stringLiteral name: String) { kind = .name(name) }

    func matches(path: String, name: String, message: Any.Type?) -> Bool {
        switch kind {
        case .everyone: true
        case .type(let type): message.map { ObjectIdentifier($0) == type } ?? false
        case .name(let wanted):
            path == wanted || name == wanted
                || name.hasPrefix("\(wanted)-") && name.dropFirst(wanted.utf8.count + 1).allSatisfy(\.isNumber)
        }
    }
}

/// One thing that is to go wrong.
///
/// Messages are counted for each fault from 1: those that its target is about to handle, over all restarts, from when the
/// fault was planned. A fault at a message strikes once.
public struct Fault: Sendable {
    enum Action: Sendable {
        case trap
        case error(any Error)
        case delay(Duration)
        case refuse
    }
    enum Time: Sendable {
        case message(Int)
        case randomly(Double)
        case starts(Int)
    }
    let target: FaultTarget
    let action: Action
    let time: Time

    /// A trap instead of the handling of a message: the process ends with a ``TrapReport``, the message and what the process
    /// holds leak, no `defer` and no `deinit` runs.
    public static func trap(_ target: FaultTarget, atMessage number: Int) -> Fault {
        Fault(target, .trap, .message(number))
    }

    /// An error instead of the handling of a message.
    ///
    /// The end of an async child is decided at that moment; `receive` throws the error, and a loop over `messages` ends.
    public static func error(
        _ target: FaultTarget,
        atMessage number: Int,
        _ error: any Error = InjectedFailure("failed by a fault plan")
    ) -> Fault {
        Fault(target, .error(error), .message(number))
    }

    /// A message is handled that much later, and so are those behind it: the order of messages stays.
    public static func delay(_ target: FaultTarget, message number: Int, by time: Duration) -> Fault {
        Fault(target, .delay(time), .message(number))
    }

    /// The next starts fail with an ``InjectedFailure``. Children only.
    public static func refuseToStart(_ target: FaultTarget, times: Int = 1) -> Fault {
        Fault(target, .refuse, .starts(times))
    }

    /// As ``trap(_:atMessage:)``, at messages drawn from the seed.
    public static func randomTrap(_ target: FaultTarget, probability: Double) -> Fault {
        Fault(target, .trap, .randomly(probability))
    }

    /// As ``error(_:atMessage:_:)``, at messages drawn from the seed.
    public static func randomError(
        _ target: FaultTarget,
        probability: Double,
        _ error: any Error = InjectedFailure("failed by a fault plan")
    ) -> Fault {
        Fault(target, .error(error), .randomly(probability))
    }

    /// As ``delay(_:message:by:)``, of messages drawn from the seed.
    public static func randomDelay(_ target: FaultTarget, probability: Double, by time: Duration) -> Fault {
        Fault(target, .delay(time), .randomly(probability))
    }

    /// Starts that fail, drawn from the seed.
    public static func randomRefusal(_ target: FaultTarget, probability: Double) -> Fault {
        Fault(target, .refuse, .randomly(probability))
    }

    private init(_ target: FaultTarget, _ action: Action, _ time: Time) {
        switch time {
        case .message(let number): precondition(number > 0, "messages are counted from 1, got \(number)")
        case .starts(let times): precondition(times > 0, "a fault must strike at least once, got \(times)")
        case .randomly(let probability):
            precondition((0...1).contains(probability), "a probability is from 0 to 1, got \(probability)")
        }
        self.target = target
        self.action = action
        self.time = time
    }
}

/// The error of a fault plan, unless it names another.
public struct InjectedFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// What the plan says about it.
    public let description: String
    /// Creates an error with these words.
    public init(_ description: String) { self.description = description }
}

/// A fault and how often its target had a message, or a start: pure.
struct PlannedFault: Sendable {
    let fault: Fault
    private var seen = 0

    init(_ fault: Fault) { self.fault = fault }

    var isForStarts: Bool {
        if case .refuse = fault.action { return true }
        return false
    }

    var delay: Duration? {
        if case .delay(let time) = fault.action { return time }
        return nil
    }

    /// Counts an occasion. True if the fault strikes.
    mutating func strikes(_ random: inout SplitMix64) -> Bool {
        seen += 1
        switch fault.time {
        case .message(let number): return seen == number
        case .starts(let times): return seen <= times
        case .randomly(let probability): return Double(random.next() >> 11) * 0x1p-53 < probability
        }
    }
}
