// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Which children share the fate of one that failed. As in Erlang/OTP.
public enum RestartStrategy: Sendable, Hashable, CaseIterable {
    /// The failed one is restarted by itself.
    case oneForOne
    /// All others are stopped, in reverse order, and all are started again, in order.
    case oneForAll
    /// Those behind the failed one are stopped, in reverse order, and started again after it, in order.
    case restForOne
    /// As `oneForOne`, for children that come and go: they start without waiting for each other, are stopped all at the same
    /// time, and are gone once they have ended without being restarted.
    ///
    /// OTP's `simple_one_for_one`.
    case dynamic
}

/// Whether a supervisor ends by itself when significant children have. As in Erlang/OTP.
///
/// A significant child counts when it ended by itself and is not restarted; not when it was terminated.
public enum AutoShutdown: Sendable, Hashable, CaseIterable {
    /// It does not.
    case never
    /// When one has ended.
    case anySignificant
    /// When the last one has ended.
    case allSignificant
}
