// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What happened in a simulation, in order: who ran where and when, what started, what ended, which faults were injected.
///
/// Two traces are equal if all of their events were. A trace keeps the latest 50,000 to 100,000 events, and counts and
/// fingerprints (FNV-1a by Fowler, Noll and Vo, 64 bits) all of them.
public struct SimulationTrace: Sendable, Hashable {
    /// One thing that happened.
    public struct Event: Sendable, Hashable {
        /// When, in virtual time.
        public let time: Duration
        /// On which of the made-up workers; nil outside of them.
        public let worker: Int?
        /// The path or name of the process, or its number in the order of appearance, as in `#3`.
        public let process: String
        /// What it was, in words.
        public let what: String
    }

    /// The latest events, oldest first.
    public private(set) var events: [Event] = []
    /// How many events there were.
    public private(set) var count = 0
    /// A number that differs, in all probability, if any event does. The same in every run of the program.
    public private(set) var fingerprint: UInt64 = 0xcbf2_9ce4_8422_2325

    private static let limit = 50_000

    /// Creates a trace without events.
    public init() {}

    mutating func add(_ event: Event) {
        count += 1
        if events.count >= 2 * Self.limit { events.removeFirst(Self.limit) }
        events.append(event)
        let (seconds, attoseconds) = event.time.components
        mix(UInt64(bitPattern: seconds))
        mix(UInt64(bitPattern: attoseconds))
        mix(UInt64(bitPattern: Int64(event.worker ?? -1)))
        for byte in event.process.utf8 { mix(byte) }
        mix(UInt8(0))
        for byte in event.what.utf8 { mix(byte) }
    }

    private mutating func mix(_ byte: UInt8) {
        fingerprint = (fingerprint ^ UInt64(byte)) &* 0x100_0000_01b3
    }

    private mutating func mix(_ word: UInt64) {
        for shift in stride(from: UInt64(0), to: 64, by: 8) { mix(UInt8(truncatingIfNeeded: word >> shift)) }
    }

    /// Whether two runs were the same, step by step.
    public static func == (left: SimulationTrace, right: SimulationTrace) -> Bool {
        left.count == right.count && left.fingerprint == right.fingerprint
    }

    /// Hashes the fingerprint.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(count)
        hasher.combine(fingerprint)
    }

    /// Where two runs part, for people; nil if they are equal. Events that are not kept any more are not looked at.
    public func firstDifference(from other: SimulationTrace) -> String? {
        if self == other { return nil }
        let (mine, others) = (count - events.count, other.count - other.events.count)
        var index = max(mine, others)
        while index < min(count, other.count) {
            let (left, right) = (events[index - mine], other.events[index - others])
            if left != right { return "event \(index): \(left) / \(right)" }
            index += 1
        }
        return "after event \(index): \(count) events / \(other.count) events"
    }
}

extension SimulationTrace.Event: CustomStringConvertible {
    /// One line: time, worker, process, and what happened.
    public var description: String {
        "\(time) \(worker.map { "worker \($0)" } ?? "outside"): \(process) \(what)"
    }
}

extension SimulationTrace: CustomStringConvertible {
    /// How many events there were, and the fingerprint.
    public var description: String { "\(count) events, fingerprint \(String(fingerprint, radix: 16))" }
}
