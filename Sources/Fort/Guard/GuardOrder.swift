// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

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
    /// Of the one that has died before; nil: none has.
    var predecessor: Predecessor?

    struct Predecessor: Equatable {
        /// The descriptor of its record.
        var record: Int32
        /// As `waitpid` gave it.
        var status: Int32
        var cause: DeathCause
    }

    /// As in `12:5:6:guard`, or `12:5:6:guard:7:139:signal`.
    var text: String {
        let own = "\(parent):\(control):\(record):\(isInit ? "init" : "guard")"
        guard let predecessor else { return own }
        return "\(own):\(predecessor.record):\(predecessor.status):\(predecessor.cause.rawValue)"
    }
}

extension GuardOrder {
    /// Nil if it is none.
    init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 4 || parts.count == 7, let parent = Int32(parts[0]), parent > 0,
            let control = Int32(parts[1]), control >= 0, let record = Int32(parts[2]), record >= 0,
            parts[3] == "init" || parts[3] == "guard"
        else { return nil }
        self.init(parent: parent, control: control, record: record, isInit: parts[3] == "init", predecessor: nil)
        guard parts.count == 7 else { return }
        guard let record = Int32(parts[4]), record >= 0, let status = Int32(parts[5]),
            let cause = DeathCause(rawValue: String(parts[6]))
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
        case .notStarted: .unknown
        }
    }
}
