// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// One watch over one process; what ``Context/monitor(_:untilClosed:)`` returns and ``Down`` carries.
///
/// Several monitors of one process are independent of each other. A value: keeping it keeps nothing alive.
public struct MonitorRef: Hashable, Sendable, CustomStringConvertible {
    let number: UInt64
    /// The process that is watched.
    public let process: ProcID

    /// As in `monitor 7 of <0.184>`.
    public var description: String { "monitor \(number) of \(process)" }
}

/// What a monitor tells, once: the process that was watched has ended, or was over before.
public struct Down: Sendable, CustomStringConvertible {
    /// Which monitor tells it.
    public let monitor: MonitorRef
    /// The process that was watched.
    public let process: ProcID
    /// What that was called; nil if nobody named it.
    public let name: String?
    /// How it ended; ``LightProc/ExitReason/noProcess`` if it was over before the monitor was set.
    public let reason: ExitReason

    /// One line: who, and how it ended.
    public var description: String { "\(name ?? "")\(process) is down: \(reason)" }
}

/// What a process that traps exits gets instead of being ended: of one that it was linked to, or from ``Context/exit(_:for:)``.
public struct Exit: Sendable, CustomStringConvertible {
    /// The process that ended, or that sent it.
    public let process: ProcID
    /// What that is called; nil if nobody named it.
    public let name: String?
    /// How it ended, ``LightProc/ExitReason/noProcess`` if it was over before the link was made; or what it sent.
    public let reason: ExitReason
    /// Whether it comes of a link, which is gone with it.
    public let isFromLink: Bool

    /// One line: who, and how it ended.
    public var description: String { "exit of \(name ?? "")\(process): \(reason)" }
}
