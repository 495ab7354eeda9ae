// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Who sent a message: a process that can be told and asked, or nobody who is known.
///
/// Valid over restarts of the sender. It holds on to the process object, not to what runs in it.
public struct RefAddr: Sendable, Hashable, CustomStringConvertible {
    /// The sender as a reference; nil if it is not known.
    public let ref: AnyRef?

    /// The address of a process.
    public init(_ ref: AnyRef) { self.ref = ref }

    private init() { ref = nil }

    /// Nobody who is known: what is told there reaches nobody.
    public static let anonymous = RefAddr()

    /// The process that the calling code belongs to; anonymous where it belongs to none. Costs what ``LightProc/current`` costs.
    public static var current: RefAddr { LightProc.current.map { RefAddr(AnyRef($0)) } ?? .anonymous }

    /// Whether the sender is known: anonymous sends are not.
    public var isIdentified: Bool { ref != nil }

    /// The sender's identity; nil if it is not known.
    public var id: ProcID? { ref?.id }

    /// Where the sender stands in the tree of supervisors; nil if it is not known, or nobody supervises it.
    public var path: String? { ref?.proc.path }

    /// Sends a value to the sender; see ``AnyRef/tell(_:lane:)``.
    /// - Returns: False also when the sender is not known.
    @discardableResult
    public func tell(_ message: any Sendable) -> Bool { ref?.tell(message) ?? false }

    /// Asks the sender; see ``AnyRef/ask(_:as:within:lane:)``.
    /// - Throws: ``AskError``; `refused` when the sender is not known.
    public func ask<Value: Sendable>(
        _ message: any Sendable,
        as type: Value.Type = Value.self,
        within time: Duration = .seconds(5)
    ) async throws(AskError) -> Value {
        guard let ref else { throw AskError(.refused, process: ProcID(rawValue: 0)) }
        return try await ref.ask(message, as: type, within: time)
    }

    /// The process, as in `worker-0<0.17>`, or `anonymous`.
    public var description: String { ref?.description ?? "anonymous" }
}
