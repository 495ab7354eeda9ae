// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What a guard tells the program that it starts, in an environment variable. Pure.
struct GuardOrder: Equatable {
    static let variable = "BASTION_INTERNAL_GUARD"

    /// The guard's process number.
    var parent: Int32
    /// The descriptor of the socket to the guard.
    var control: Int32
    /// The descriptor of the program's own record.
    var record: Int32
    /// Whether the guard only does what a first process must, and starts nothing again.
    var isInit = false
    /// So often at least a service manager wants a sign of life; nil: it does not.
    var watchdogTime: Duration?
    /// Of the one that has died before; nil: none has.
    var predecessor: Predecessor?

    struct Predecessor: Equatable {
        /// The descriptor of its record.
        var record: Int32
        /// As `waitpid` gave it.
        var status: Int32
        var cause: DeathCause
    }

    /// As in `12:5:6:guard`, or `12:5:6:guard:7:139:signal`; with microseconds behind the fourth word where a service manager waits.
    var text: String {
        var own = "\(parent):\(control):\(record):\(isInit ? "init" : "guard")"
        if let watchdogTime { own += ":\(watchdogTime.inNanoseconds / 1000)" }
        guard let predecessor else { return own }
        return "\(own):\(predecessor.record):\(predecessor.status):\(predecessor.cause.rawValue)"
    }
}

extension GuardOrder {
    /// Nil if it is none.
    init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard [4, 5, 7, 8].contains(parts.count), let parent = Int32(parts[0]), parent > 0,
            let control = Int32(parts[1]), control >= 0, let record = Int32(parts[2]), record >= 0,
            parts[3] == "init" || parts[3] == "guard"
        else { return nil }
        self.init(parent: parent, control: control, record: record, isInit: parts[3] == "init")
        var rest = parts.dropFirst(4)
        if rest.count == 1 || rest.count == 4 {
            guard let time = Int64(rest.removeFirst()), time > 0 else { return nil }
            watchdogTime = .microseconds(time)
        }
        if rest.isEmpty { return }
        let dead = Array(rest)
        guard let record = Int32(dead[0]), record >= 0, let status = Int32(dead[1]),
            let cause = DeathCause(rawValue: String(dead[2]))
        else { return nil }
        predecessor = Predecessor(record: record, status: status, cause: cause)
    }
}

extension ChildEnd {
    /// As reports have it.
    var deathCause: DeathCause {
        switch self {
        case .exit: .exit
        case .signal: .signal
        case .hang: .hang
        case .outOfMemory: .outOfMemory
        case .forced: .forced
        case .notReady: .notReady
        case .notStarted: .unknown
        }
    }
}
