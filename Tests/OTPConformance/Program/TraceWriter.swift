// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What a scenario is run on.
protocol ScenarioWorld: AnyObject {
    /// Starts the tree. The seed draws the order of what may happen in any.
    init(_ scenario: Scenario, seed: UInt64)
    /// Does one event, and returns what the call answered, when it has; nil if it is no call.
    func perform(_ event: Event.Kind) -> String?
    /// Lets happen what is to happen, and no time pass but where somebody waits for it in order to stop.
    func settle()
    /// What happened since the last call.
    func takeLog() -> [LogLine]
    /// What the children that live were told by links and monitors since the last call: `NAME WORDS`.
    func takeTold() -> [String]
    /// The children below the root, as in a trace; nil if the root has ended.
    var tree: String? { get }
    /// How the root has ended.
    var rootReason: String { get }
    /// Stops the root, and returns when that has ended.
    func stop()
    /// Time since the world was made.
    var now: Duration { get }
}

/// What one child or supervisor did.
struct LogLine: Equatable, Sendable {
    let time: Duration
    /// Without the indentation.
    let text: String
    /// Of a dynamic child that was stopped, its supervisor: those are stopped in no order.
    let stoppedBy: String?

    var isStart: Bool { text.hasPrefix("start ") }

    /// Whether both are starts, or stops of children of one dynamic supervisor.
    func isLike(_ other: LogLine) -> Bool { stoppedBy == other.stoppedBy && isStart == other.isStart }
}

/// Runs a scenario and prints its trace.
struct TraceWriter<World: ScenarioWorld> {
    private let world: World
    private let isTimed: Bool
    private let isUnordered: Bool
    private var start: Duration = .zero
    private var lines: [String]

    /// The trace of a scenario, with the newline of its last line.
    static func trace(of scenario: Scenario, seed: UInt64) -> String {
        var writer = TraceWriter(scenario, seed)
        writer.run(scenario.events)
        return writer.lines.joined(separator: "\n") + "\n"
    }

    private init(_ scenario: Scenario, _ seed: UInt64) {
        lines = ["scenario \(scenario.name)"]
        isTimed = scenario.isTimed
        isUnordered = scenario.isUnordered
        world = World(scenario, seed: seed)
    }

    private mutating func run(_ events: [Event]) {
        _ = writeRest()
        for event in events {
            lines.append("event \(event.text)")
            start = world.now
            if let result = world.perform(event.kind) { lines.append("  result \(result)\(time(world.now))") }
            guard writeRest() else {
                lines.append("  down root \(world.rootReason)")
                lines.append("end")
                return
            }
        }
        lines.append("event stop")
        start = world.now
        world.stop()
        writeLog()
        lines.append("end")
    }

    /// What comes of an event. False if the root has ended.
    private mutating func writeRest() -> Bool {
        world.settle()
        writeLog()
        guard let tree = world.tree else { return false }
        lines += world.takeTold().sorted().map { "  told \($0)" }
        lines.append("  tree root[\(tree)]")
        return true
    }

    private mutating func writeLog() {
        let log = world.takeLog()
        var index = 0
        while index < log.count {
            let first = log[index]
            let isSorted = first.stoppedBy != nil || isUnordered && first.isStart
            let end = isSorted ? log[index...].firstIndex { !$0.isLike(first) } ?? log.count : index + 1
            lines += log[index..<end].map { "  \($0.text)\(time($0.time))" }.sorted()
            index = end
        }
    }

    /// Times are rounded down to this many milliseconds.
    private static var step: Int { 500 }

    private func time(_ moment: Duration) -> String {
        guard isTimed else { return "" }
        return " @\(Int((moment - start) / .milliseconds(Self.step)) * Self.step)"
    }
}
