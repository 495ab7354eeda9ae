// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Whether a child is started again after it ended.
///
/// | ended | permanent | transient | temporary |
/// |---|---|---|---|
/// | `normal`, `shutdown` | restarted | not | not |
/// | `error`, `trap`, `killed`, `deadlineExceeded`, `unresponsive`, `linked` | restarted | restarted | not |
public enum RestartType: Sendable, Hashable, CaseIterable {
    /// Started again whatever its end was.
    case permanent
    /// Started again after a failure only.
    case transient
    /// Never started again.
    case temporary

    /// Whether an end for this reason calls for a restart.
    public func restarts(after reason: ExitReason) -> Bool {
        switch self {
        case .permanent: true
        case .transient: reason.isFailure
        case .temporary: false
        }
    }
}
