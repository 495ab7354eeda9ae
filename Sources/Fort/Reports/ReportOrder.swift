// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What a guard tells the executable that it starts to write the report of a death. Pure.
struct ReportOrder: Equatable, Sendable {
    /// The descriptor of the dead one's record, in the process that is started.
    var record: Int32
    /// What `waitpid` said.
    var status: Int32
    var cause: DeathCause
    /// How many times the guard had started the program again before.
    var restarts: Int
    var limits: ReportLimits
    /// The guard, which nothing that it has started outlives.
    var parent: Int32
    /// Empty: no files are written.
    var directory: String

    /// The variable of the environment that an order is given in.
    static let variable = "BASTION_INTERNAL_REPORT"

    /// As in `3:139:signal:0:100:16777216:23900:/var/crash`.
    var encoded: String {
        "\(record):\(status):\(cause.rawValue):\(restarts):\(limits.count):\(limits.bytes):\(parent):"
            + directory
    }
}

extension ReportOrder {
    /// Reads ``encoded``; nil if it is none.
    init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 7, omittingEmptySubsequences: false)
        guard parts.count == 8, let record = Int32(parts[0]), record >= 0, let status = Int32(parts[1]),
            let cause = DeathCause(rawValue: String(parts[2])), let restarts = Int(parts[3]), restarts >= 0,
            let count = Int(parts[4]), count >= 0, let bytes = Int(parts[5]), bytes >= 0,
            let parent = Int32(parts[6]), parent > 0
        else { return nil }
        self.init(
            record: record,
            status: status,
            cause: cause,
            restarts: restarts,
            limits: ReportLimits(count: count, bytes: bytes),
            parent: parent,
            directory: String(parts[7])
        )
    }
}
