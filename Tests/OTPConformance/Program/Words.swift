// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// One line, word by word.
struct Words {
    let line: Int
    let all: [String]
    private var position = 0

    init(line: Int, _ words: [String]) {
        self.line = line
        all = words
    }

    func error(_ what: String) -> ScenarioError { ScenarioError(line: line, what: what) }

    // MARK: Words

    mutating func word(_ what: String) throws(ScenarioError) -> String {
        guard position < all.count else { throw error("\(what) is missing at the end") }
        position += 1
        return all[position - 1]
    }

    mutating func expect(_ word: String) throws(ScenarioError) {
        let found = try self.word("'\(word)'")
        guard found == word else { throw error("'\(word)' should be here, not '\(found)'") }
    }

    mutating func number(_ what: String, least: Int = 0) throws(ScenarioError) -> Int {
        let found = try word(what)
        guard let number = Int(found), number >= least, number <= Self.largest else {
            throw error("'\(found)' is not \(what): a number from \(least) to \(Self.largest)")
        }
        return number
    }
    /// What OTP's timers take, in milliseconds: seven weeks.
    private static let largest = 4_294_967_295

    mutating func choice<Choice: RawRepresentable & CaseIterable>(
        _ what: String,
        _ type: Choice.Type = Choice.self
    ) throws(ScenarioError) -> Choice where Choice.RawValue == String {
        let found = try word(what)
        guard let choice = Choice(rawValue: found) else {
            let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw error("'\(found)' is not \(what): \(known)")
        }
        return choice
    }

    func end() throws(ScenarioError) {
        if position < all.count { throw error("'\(all[position])' is one word too many") }
    }

    // MARK: Specifications

    mutating func flags() throws(ScenarioError) -> SupervisorFlags {
        SupervisorFlags(
            strategy: try choice("a strategy"),
            intensity: try number("an intensity"),
            period: .seconds(try number("a period", least: 1)),
            autoShutdown: try choice("an automatic shutdown")
        )
    }

    mutating func restartFlags() throws(ScenarioError) -> RestartFlags {
        RestartFlags(kind: try choice("a restart type"), isSignificant: try significance())
    }

    private mutating func significance() throws(ScenarioError) -> Bool {
        let found = try word("a significance")
        guard let isSignificant = Bool(found) else { throw error("'\(found)' is not a significance: true, false") }
        return isSignificant
    }

    /// What follows the word `child`; the end of the line, too.
    mutating func childSpec() throws(ScenarioError) -> ChildSpec {
        let name = try word("a name")
        let kind: RestartFlags.Kind = try choice("a restart type")
        let shutdown = try shutdown()
        let restart = RestartFlags(kind: kind, isSignificant: try significance())
        return ChildSpec(name: name, restart: restart, shutdown: shutdown, manner: try manner())
    }

    private mutating func shutdown() throws(ScenarioError) -> ChildSpec.Shutdown {
        guard position < all.count else { throw error("a shutdown is missing at the end") }
        switch all[position] {
        case "kill":
            position += 1
            return .kill
        case "infinity":
            position += 1
            return .infinity
        default:
            return .time(milliseconds: try number("a shutdown, kill, infinity or milliseconds"))
        }
    }

    private mutating func manner() throws(ScenarioError) -> ChildSpec.Manner {
        guard position < all.count else { return .obeys }
        let found = try word("a manner")
        switch found {
        case "plain": return .plain
        case "stubborn": return .stubborn
        case _ where found.hasPrefix("slow="):
            guard let time = Int(found.dropFirst(5)), time >= 0 else { fallthrough }
            return .slow(milliseconds: time)
        default: throw error("'\(found)' is not a manner: plain, stubborn, slow=MS")
        }
    }

    // MARK: Events

    /// The whole line as an event.
    func event() throws(ScenarioError) -> Event {
        var words = self
        let kind = try words.eventKind()
        try words.end()
        return Event(text: all.joined(separator: " "), kind: kind)
    }

    private mutating func eventKind() throws(ScenarioError) -> Event.Kind {
        let verb = try word("an event")
        if let end = Event.Kind.End(rawValue: verb) { return .end(end, child: try word("a child")) }
        if let call = Event.Kind.Call(rawValue: verb) {
            return .call(call, supervisor: try word("a supervisor"), child: try word("a child"))
        }
        if let bond = Event.Kind.Bond(rawValue: verb) {
            return .bond(bond, child: try word("a child"), other: try word("another child"))
        }
        switch verb {
        case "both":
            return .both(
                supervisor: try word("a supervisor"),
                child: try word("a child"),
                other: try word("another child")
            )
        case "failstart":
            return .failStart(child: try word("a child"), times: try number("a number of starts"))
        case "start":
            let supervisor = try word("a supervisor")
            try expect("child")
            return .start(supervisor: supervisor, try childSpec())
        case "spawn":
            return .spawn(supervisor: try word("a supervisor"), child: try word("a child"))
        case "count":
            return .count(supervisor: try word("a supervisor"))
        case "spec":
            return .spec(supervisor: try word("a supervisor"), child: try word("a child"))
        case "change":
            return try change()
        case "sleep":
            return .sleep(milliseconds: try number("a time in milliseconds"))
        default:
            throw error("'\(verb)' is no event")
        }
    }

    private mutating func change() throws(ScenarioError) -> Event.Kind {
        let supervisor = try word("a supervisor")
        let what = try word("flags or child")
        switch what {
        case "flags": return .changeFlags(supervisor: supervisor, try flags())
        case "child": return .changeChild(supervisor: supervisor, try childSpec())
        default: throw error("'\(what)' is neither flags nor child")
        }
    }
}
