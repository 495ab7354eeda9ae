// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A limit on CPU time: so many microseconds in each period, over all CPUs together.
public struct CPUQuota: Sendable, Equatable {
    /// CPU time that may be used in each period, in microseconds; positive.
    public let quotaMicroseconds: Int
    /// The length of a period in microseconds; positive.
    public let periodMicroseconds: Int
    /// The file that sets the limit, for people.
    public let source: String

    /// Creates a quota, or `nil` unless both numbers are positive.
    public init?(quotaMicroseconds: Int, periodMicroseconds: Int, source: String = "") {
        guard quotaMicroseconds > 0, periodMicroseconds > 0 else { return nil }
        self.quotaMicroseconds = quotaMicroseconds
        self.periodMicroseconds = periodMicroseconds
        self.source = source
    }

    /// The number of CPUs' worth of time, such as 2.5.
    public var cpus: Double { Double(quotaMicroseconds) / Double(periodMicroseconds) }

    /// The number of workers that can use the quota up: `cpus` rounded up, at least 1.
    public var workerLimit: Int {
        // No overflow: the quotient is at most Int.max, and a remainder needs a period of at least 2.
        let whole = quotaMicroseconds / periodMicroseconds
        return quotaMicroseconds % periodMicroseconds == 0 ? whole : whole + 1
    }
}

extension CPUQuota {
    /// Reads a cgroup v2 `cpu.max`: `"250000 100000"`; `"max 100000"` and nonsense mean no limit.
    package init?(cpuMax text: String, source: String = "") {
        let fields = text.split(whereSeparator: \.isWhitespace)
        // The kernel always prints two fields, and takes one: the period is then 100 ms.
        guard let first = fields.first, fields.count <= 2, let quota = Int(first),
            let period = fields.count == 2 ? Int(fields[1]) : 100_000
        else { return nil }
        self.init(quotaMicroseconds: quota, periodMicroseconds: period, source: source)
    }

    /// Reads cgroup v1 `cpu.cfs_quota_us` and `cpu.cfs_period_us`; a quota of -1 means no limit.
    package init?(cfsQuota: String, cfsPeriod: String, source: String = "") {
        let quotaFields = cfsQuota.split(whereSeparator: \.isWhitespace)
        let periodFields = cfsPeriod.split(whereSeparator: \.isWhitespace)
        guard quotaFields.count == 1, periodFields.count == 1,
            let quota = Int(quotaFields[0]), let period = Int(periodFields[0])
        else { return nil }
        self.init(quotaMicroseconds: quota, periodMicroseconds: period, source: source)
    }

    /// Returns the tightest of several limits, the first among equals.
    package static func tightest(_ quotas: some Sequence<CPUQuota>) -> CPUQuota? {
        quotas.min { $0.cpus < $1.cpus }
    }
}
