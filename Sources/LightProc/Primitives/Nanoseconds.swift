// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

extension Duration {
    /// Whole nanoseconds, towards zero, saturating.
    package var inNanoseconds: Int64 { Int64(clamping: attoseconds / 1_000_000_000) }

    /// The first whole nanosecond that is not before, saturating.
    var nanosecondsUp: Int64 {
        let (whole, rest) = attoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        return Int64(clamping: rest > 0 ? whole + 1 : whole)
    }

    /// As a timer takes it: whole nanoseconds, not before, never negative, saturating.
    package var timerDelay: UInt64 { UInt64(max(nanosecondsUp, 0)) }
}
