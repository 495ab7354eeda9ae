// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// How short the program is of memory, by what the kernel says of its control group and of waiting for memory.
public struct MemoryPressure: Sendable, Hashable, CustomStringConvertible {
    /// From best to worst.
    public enum Level: UInt8, Sendable, Hashable, Comparable, CaseIterable {
        /// There is enough, or nobody knows.
        case none
        /// Work that can wait should.
        case some
        /// Whatever is not urgent should be refused: the program is about to be slowed down, or ended.
        case critical

        /// Whether it is better.
        public static func < (lhs: Level, rhs: Level) -> Bool { lhs.rawValue < rhs.rawValue }
    }

    /// What follows from the figures, and those before: it rises at once, and falls one step at a time after 5 seconds of calm.
    public internal(set) var level: Level
    /// Bytes in use in the group with the least room, without file contents that were not used lately, which the kernel drops when
    /// it needs memory; nil: no limit is known.
    public internal(set) var usedBytes: Int?
    /// The limit of that group, `memory.high` or `memory.max`.
    public internal(set) var limitBytes: Int?
    /// Part of the last second or so, 0 to 1, in which some thread waited for memory; nil where the kernel does not tell.
    public internal(set) var stalledShare: Double?
    /// The same, in which nothing else ran meanwhile.
    public internal(set) var fullyStalledShare: Double?
    /// Processes that the kernel has ended for lack of memory in the groups around the program, since the watch began.
    public internal(set) var kills: Int

    static let unknown = MemoryPressure(level: .none, kills: 0)

    /// One line, as in `some: 460 of 512 MiB, stalled 12 %`.
    public var description: String {
        var words: [String] = []
        if let usedBytes, let limitBytes { words.append("\(usedBytes >> 20) of \(limitBytes >> 20) MiB") }
        if let stalledShare { words.append("stalled \(Int((stalledShare * 100).rounded())) %") }
        if kills > 0 { words.append("\(kills) killed") }
        return words.isEmpty ? "\(level)" : "\(level): \(words.joined(separator: ", "))"
    }
}

/// Which work is to be refused at a level of memory pressure.
///
/// | level | low priority | normal | high |
/// |---|---|---|---|
/// | none | does | does | does |
/// | some | refused | does | does |
/// | critical | refused | refused | does |
public struct LoadShedding: Sendable, Hashable {
    /// The level that it goes by.
    public let level: MemoryPressure.Level
    /// Creates the rule for a level.
    public init(at level: MemoryPressure.Level) { self.level = level }

    /// Whether work of this priority is to be refused.
    public func refuses(_ priority: ProcPriority) -> Bool {
        switch level {
        case .none: false
        case .some: priority == .low
        case .critical: priority != .high
        }
    }
}

extension Fort {
    /// How short the program is of memory, as of the last look: none where nothing is known. Takes a lock for some loads; any thread.
    public static var memoryPressure: MemoryPressure { PressureBoard.current.withLock { $0 } }

    /// The level alone: one atomic load; any thread.
    public static var memoryPressureLevel: MemoryPressure.Level {
        // ordering: relaxed: a value by itself.
        MemoryPressure.Level(rawValue: UInt8(PressureBoard.level.load(ordering: .relaxed))) ?? .none
    }

    /// Whether work should be refused now, for lack of memory: see ``LoadShedding``. One atomic load; any thread.
    ///
    /// ```swift
    /// router.get("report") { request, _ in
    ///     // Reports can be asked for again.
    ///     if Fort.shedsLoad(.low) { throw HTTPError(.serviceUnavailable, headers: [.retryAfter: "5"]) }
    ///     return try await report(request)
    /// }
    /// ```
    /// - Parameter priority: How urgent the work is.
    public static func shedsLoad(_ priority: ProcPriority = .normal) -> Bool {
        LoadShedding(at: memoryPressureLevel).refuses(priority)
    }
}

/// Where the pressure is published.
enum PressureBoard {
    static let level = AtomicWord(0)
    static let current = Locked(MemoryPressure.unknown)

    /// Returns whether the level is another one.
    static func publish(_ pressure: MemoryPressure) -> Bool {
        let former = current.withLock { current in
            defer { current = pressure }
            return current.level
        }
        // ordering: relaxed: as in `memoryPressureLevel`.
        level.store(UInt(pressure.level.rawValue), ordering: .relaxed)
        return former != pressure.level
    }
}
