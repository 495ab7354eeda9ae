// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Reads scenarios. What OTP would refuse to start is an error here, too: no scenario is about that.
struct ScenarioParser {
    private let lines: [Words]
    private var position = 0
    /// Of the scenario that is read: each name has one place.
    private var names: Set<String> = []

    /// All scenarios of a text.
    static func scenarios(in text: String) throws(ScenarioError) -> [Scenario] {
        var parser = ScenarioParser(text)
        var scenarios: [Scenario] = []
        while parser.position < parser.lines.count { scenarios.append(try parser.scenario()) }
        return scenarios
    }

    private init(_ text: String) {
        var lines: [Words] = []
        for (index, line) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .enumerated()
        {
            let blanks: Set<UInt8> = [UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r")]
            let words = line.split(whereSeparator: blanks.contains).map { String(decoding: $0, as: UTF8.self) }
            guard let first = words.first, !first.hasPrefix("#") else { continue }
            lines.append(Words(line: index + 1, words))
        }
        self.lines = lines
    }

    private var next: Words? { position < lines.count ? lines[position] : nil }

    /// The next line; an error if there is none.
    private mutating func take(_ what: String) throws(ScenarioError) -> Words {
        guard let line = next else {
            throw ScenarioError(line: (lines.last?.line ?? 0) + 1, what: "the input ends where \(what) should be")
        }
        position += 1
        return line
    }

    private mutating func scenario() throws(ScenarioError) -> Scenario {
        var head = try take("a scenario")
        try head.expect("scenario")
        let name = try head.word("a name")
        try head.end()
        names = ["root"]
        var options: Set<String> = []
        while let line = next, line.all == ["timed"] || line.all == ["unordered"] {
            options.formUnion(line.all)
            position += 1
        }

        var root = try take("the root supervisor")
        try root.expect("0")
        try root.expect("sup")
        try root.expect("root")
        let flags = try root.flags()
        try root.end()
        let children = try elements(depth: 1, below: flags, root.line)

        var separator = try take("'events'")
        try separator.expect("events")
        try separator.end()
        var events: [Event] = []
        while let line = next, line.all.first != "scenario" {
            position += 1
            events.append(try line.event())
        }
        return Scenario(
            name: name,
            isTimed: options.contains("timed"),
            isUnordered: options.contains("unordered"),
            flags: flags,
            children: children,
            events: events
        )
    }

    /// The lines of one depth, and what stands below these.
    private mutating func elements(
        depth: Int,
        below flags: SupervisorFlags,
        _ parentLine: Int
    ) throws(ScenarioError) -> [TreeElement] {
        var elements: [TreeElement] = []
        while var line = next, line.all != ["events"] {
            let found = try line.number("a depth")
            if found < depth, found > 0 { break }
            guard found == depth else {
                throw line.error("depth \(found) cannot stand here; it is at most \(depth), at least 1")
            }
            position += 1
            elements.append(try element(&line, depth, below: flags))
        }
        if flags.strategy == .simpleOneForOne {
            guard elements.count == 1, case .child = elements[0] else {
                throw ScenarioError(line: parentLine, what: "simple_one_for_one has one child below it, the template")
            }
        }
        return elements
    }

    private mutating func element(
        _ line: inout Words,
        _ depth: Int,
        below flags: SupervisorFlags
    ) throws(ScenarioError) -> TreeElement {
        let kind = try line.word("child or sup")
        switch kind {
        case "child":
            let spec = try line.childSpec()
            try line.end()
            try admit(spec.name, spec.restart, below: flags, line)
            return .child(spec)
        case "sup":
            let name = try line.word("a name")
            let own = try line.flags()
            let restart = try line.restartFlags()
            try line.end()
            try admit(name, restart, below: flags, line)
            return .supervisor(name, own, restart, try elements(depth: depth + 1, below: own, line.line))
        default:
            throw line.error("'\(kind)' is neither child nor sup")
        }
    }

    private mutating func admit(
        _ name: String,
        _ restart: RestartFlags,
        below flags: SupervisorFlags,
        _ line: Words
    ) throws(ScenarioError) {
        guard names.insert(name).inserted else { throw line.error("there are two of the name \(name)") }
        guard restart.isSignificant else { return }
        if restart.kind == .permanent { throw line.error("a permanent child cannot be significant") }
        if flags.autoShutdown == .never {
            throw line.error("nothing is significant to a supervisor that never shuts itself down")
        }
    }
}
