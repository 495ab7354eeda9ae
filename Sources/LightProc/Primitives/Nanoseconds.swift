// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

extension Duration {
    /// Whole nanoseconds, saturating.
    package var inNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, carry) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return carry ? .max : sum
    }

    /// The first whole nanosecond that is not before, saturating.
    var nanosecondsUp: Int64 {
        let whole = inNanoseconds
        return components.attoseconds % 1_000_000_000 > 0 && whole < .max ? whole + 1 : whole
    }

    /// As a timer takes it: whole nanoseconds, not before, never negative, saturating.
    package var timerDelay: UInt64 { UInt64(max(nanosecondsUp, 0)) }
}
