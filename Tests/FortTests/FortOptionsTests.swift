// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Logging
import Supervision
import Testing

@testable import Fort

@Suite struct FortOptionsTests {
    private struct Plain: FortProgram {
        func run(in context: Context) async throws {}
    }

    private static let plain = FortOptions(of: Plain.self)

    private func flaws(_ environment: [String: String], of options: FortOptions = plain) -> [String] {
        do throws(FortOptionsError) {
            _ = try options.reading(environment: environment)
            return []
        } catch {
            return error.flaws.map(\.description)
        }
    }

    /// What each option says after it was read, as it is printed.
    private func printed(_ variable: String, _ value: String) throws -> String {
        let options = try Self.plain.reading(environment: [variable: value])
        let option = try #require(FortOption.all.first { $0.variable == variable })
        return option.print(options)
    }

    // MARK: Values

    @Test func withoutVariablesTheProgramsDefaultsCount() throws {
        let options = try Self.plain.reading(environment: ["PATH": "/bin", "HOME": "/"])
        for option in FortOption.all { #expect(option.print(options) == option.print(Self.plain)) }
        #expect(options.boundary == .inProcess)
        #expect(options.backoff == .exponential(.milliseconds(1), cap: .seconds(1)))
        #expect(options.stopDeadline == .seconds(30))
        #expect(options.hangTime == .seconds(10))
        #expect(options.leakBudget == 256 << 20)
        #expect(options.reportDirectory == nil)
        #expect(options.workers == nil)
    }

    @Test func everyOptionIsOverriddenByItsVariable() throws {
        let options = try Self.plain.reading(environment: [
            "BASTION_BOUNDARY": "guarded", "BASTION_REDUNDANCY": "3", "BASTION_RESTARTS": "5/10s",
            "BASTION_BACKOFF": "5ms..2s", "BASTION_SHUTDOWN_TIME": "kill", "BASTION_STOP_DEADLINE": "1m",
            "BASTION_HANG_TIME": "never", "BASTION_LEAK_BUDGET": "1GiB", "BASTION_REPORT_DIRECTORY": "/var/crash",
            "BASTION_REPORT_COUNT": "7", "BASTION_REPORT_BYTES": "64KiB", "BASTION_WORKERS": "2",
            "BASTION_ADOPTS_GLOBAL_EXECUTOR": "yes", "BASTION_LOG_LEVEL": "debug",
        ])
        #expect(options.boundary == .guarded)
        #expect(options.redundancy == 3)
        #expect(options.intensity == RestartIntensity(5, within: .seconds(10)))
        #expect(options.backoff == .exponential(.milliseconds(5), cap: .seconds(2)))
        #expect(options.shutdownTime == .brutalKill)
        #expect(options.stopDeadline == .seconds(60))
        #expect(options.hangTime == nil)
        #expect(options.leakBudget == 1 << 30)
        #expect(options.reportDirectory == "/var/crash")
        #expect(options.reportLimits == ReportLimits(count: 7, bytes: 64 << 10))
        #expect(options.workers == 2)
        #expect(options.adoptsGlobalExecutor)
        #expect(options.logLevel == .debug)
    }

    @Test(arguments: [
        ("BASTION_RESTARTS", "unlimited", "unlimited"),
        ("BASTION_RESTARTS", "0/60s", "0/1m"),
        ("BASTION_BACKOFF", "none", "none"),
        ("BASTION_BACKOFF", "100ms", "100ms"),
        ("BASTION_BACKOFF", "1000us..1s", "1ms..1s"),
        ("BASTION_BACKOFF", "1s..9s,linear", "1s..9s,linear"),
        ("BASTION_BACKOFF", "1s..9s,reset=300s,jitter=0.25", "1s..9s,jitter=0.25,reset=5m"),
        ("BASTION_SHUTDOWN_TIME", "infinity", "infinity"),
        ("BASTION_SHUTDOWN_TIME", "1.5s", "1500ms"),
        ("BASTION_SHUTDOWN_TIME", "0s", "0s"),
        ("BASTION_STOP_DEADLINE", "36h", "36h"),
        ("BASTION_STOP_DEADLINE", "0.000000001s", "1ns"),
        ("BASTION_LEAK_BUDGET", "1000", "1000"),
        ("BASTION_LEAK_BUDGET", "1024B", "1KiB"),
        ("BASTION_LEAK_BUDGET", "5MB", "5000000"),
        ("BASTION_REPORT_DIRECTORY", "none", "none"),
        ("BASTION_REPORT_DIRECTORY", "./none", "./none"),
        ("BASTION_WORKERS", "all", "all"),
        ("BASTION_ADOPTS_GLOBAL_EXECUTOR", "no", "no"),
        ("BASTION_LOG_LEVEL", "unchanged", "unchanged"),
    ])
    func aValueIsReadAndPrinted(_ variable: String, _ value: String, _ expected: String) throws {
        #expect(try printed(variable, value) == expected)
    }

    @Test(arguments: [
        ("BASTION_BOUNDARY", ["", "none", "Guarded"]),
        ("BASTION_REDUNDANCY", ["", "0", "-1", "+1", "1.5", "three", "99999999999999999999"]),
        ("BASTION_RESTARTS", ["", "5", "5/", "/10s", "5/0s", "-1/10s", "5/10s/1", "5/10"]),
        (
            "BASTION_BACKOFF",
            [
                "", "1", "1ms..", "..1s", "1s..1ms", "100ms,linear", "none,jitter=1", "1ms..1s,jitter=2",
                "1ms..1s,jitter=nan", "1ms..1s,reset=0s", "1ms..1s,linear,linear", "1ms...1s", "1ms..1s,",
            ]
        ),
        (
            "BASTION_SHUTDOWN_TIME",
            ["", "10", "-1s", "10 s", "10sec", "1.s", ".5s", "1.2.3s", "0.1ns", "99999999d", "20000d"]
        ),
        ("BASTION_STOP_DEADLINE", ["", "0s", "infinity", "never"]),
        ("BASTION_HANG_TIME", ["", "0s", "infinity"]),
        ("BASTION_LEAK_BUDGET", ["", "0", "-1", "MiB", "1.5GiB", "1 GiB", "99999999TiB"]),
        ("BASTION_REPORT_DIRECTORY", [""]),
        ("BASTION_REPORT_COUNT", ["", "0"]),
        ("BASTION_REPORT_BYTES", ["", "0"]),
        ("BASTION_WORKERS", ["", "0", "none"]),
        ("BASTION_ADOPTS_GLOBAL_EXECUTOR", ["", "true", "YES"]),
        ("BASTION_LOG_LEVEL", ["", "loud"]),
    ])
    func aWrongValueIsNamedWithWhatIsAllowed(_ variable: String, _ values: [String]) throws {
        let option = try #require(FortOption.all.first { $0.variable == variable })
        for value in values {
            let found = flaws([variable: value])
            #expect(found.count == 1, "\(variable)=\(value)")
            #expect(found.first?.hasPrefix("\(variable)=\(value) cannot be used") == true)
            #expect(found.first?.hasSuffix("allowed is \(option.text)") == true)
        }
    }

    @Test func everyOptionHasAVariableOfItsOwn() {
        #expect(Set(FortOption.all.map(\.variable)).count == FortOption.all.count)
        #expect(Set(FortOption.all.map(\.property)).count == FortOption.all.count)
    }

    @Test func allThatIsWrongIsNamed() {
        let found = flaws([
            "BASTION_WORKERS": "many", "BASTION_BACKOFF": "9s..1s", "BASTION_RESTART": "1/1s",
            "BASTION_REDUNDANCY": "0",
        ])
        #expect(
            found == [
                "BASTION_REDUNDANCY=0 cannot be used: redundancy must be at least 1, got 0; allowed is 1, 2, 3, ...",
                "BASTION_BACKOFF=9s..1s cannot be used: backoff is wrong: the cap must not be below the first delay: "
                    + "1.0 seconds is below 9.0 seconds; allowed is \(OptionFormat<Backoff>.backoff.text)",
                "BASTION_WORKERS=many cannot be used; allowed is 1, 2, 3, ... | all",
                "BASTION_RESTART is no option; did you mean BASTION_RESTARTS? --bastion-help lists them all",
            ]
        )
    }

    @Test(arguments: [
        ("BASTION_BUONDARY", "BASTION_BOUNDARY"), ("BASTION_WORKER", "BASTION_WORKERS"),
        ("BASTION_REPORT_DIR", "BASTION_REPORT_DIRECTORY"), ("BASTION_LEAKBUDGET", "BASTION_LEAK_BUDGET"),
        ("BASTION_STOPDEADLINE", "BASTION_STOP_DEADLINE"),
    ])
    func anUnknownVariableIsAnsweredWithTheNearest(_ variable: String, _ nearest: String) {
        #expect(flaws([variable: "1"]).first?.contains("did you mean \(nearest)?") == true)
    }

    @Test func variablesOfOthersAreLeftAlone() {
        #expect(
            flaws(["BASTION_INTERNAL_FD": "7", "BASTION_SEED": "1", "BASTIONX": "1", "bastion_workers": "x"]) == []
        )
    }

    // MARK: What the program declares

    private struct Flawed: FortProgram {
        static var redundancy: Int { -2 }
        static var backoff: Backoff { .linear(.seconds(1), cap: .seconds(5), jitter: 3) }
        static var shutdownTime: ShutdownTime { .seconds(-1) }
        static var stopDeadline: Duration { .zero }
        static var hangTime: Duration? { .seconds(-5) }
        static var leakBudget: Int { 0 }
        static var reportDirectory: String? { "" }
        static var reportLimits: ReportLimits { ReportLimits(count: 0, bytes: 0) }
        static var workers: Int? { 0 }
        func run(in context: Context) async throws {}
    }

    @Test func whatTheProgramDeclaresMustMakeSense() {
        #expect(
            flaws([:], of: FortOptions(of: Flawed.self)) == [
                "Flawed.redundancy must be at least 1, got -2; change it, or set BASTION_REDUNDANCY",
                "Flawed.backoff is wrong: the jitter must lie between 0 and 1, got 3.0; change it, or set BASTION_BACKOFF",
                "Flawed.shutdownTime must not be negative, got -1s; change it, or set BASTION_SHUTDOWN_TIME",
                "Flawed.stopDeadline must be positive, got 0s; change it, or set BASTION_STOP_DEADLINE",
                "Flawed.hangTime must be positive, got -5s; change it, or set BASTION_HANG_TIME",
                "Flawed.leakBudget must be at least 1 byte, got 0; change it, or set BASTION_LEAK_BUDGET",
                "Flawed.reportDirectory must not be empty; nil is for none; change it, or set BASTION_REPORT_DIRECTORY",
                "Flawed.reportLimits.count must be at least 1, got 0; change it, or set BASTION_REPORT_COUNT",
                "Flawed.reportLimits.bytes must be at least 1 byte, got 0; change it, or set BASTION_REPORT_BYTES",
                "Flawed.workers must be at least 1, got 0; change it, or set BASTION_WORKERS",
            ]
        )
    }

    @Test func whatIsOverriddenNeedNotMakeSense() {
        let found = flaws(["BASTION_REDUNDANCY": "1", "BASTION_WORKERS": "1"], of: FortOptions(of: Flawed.self))
        #expect(!found.contains { $0.contains("redundancy") || $0.contains("workers") })
        #expect(found.count == 8)
    }

    // MARK: Help

    @Test func theHelpTellsOfEachOptionItsDefaultAndWhatIsInForce() {
        let help = Self.plain.help(environment: ["BASTION_WORKERS": "3", "BASTION_BACKOFF": "now", "BASTION_X": "1"])
        for option in FortOption.all {
            #expect(help.contains(option.variable))
            #expect(help.contains(option.meaning))
            #expect(help.contains("format:   \(option.text)"))
            #expect(help.contains("default:  \(option.print(Self.plain))"))
        }
        #expect(help.contains("in force: 3\n"))
        #expect(help.contains("in force: none: now cannot be used\n"))
        #expect(help.hasSuffix("BASTION_X is unknown"))
        #expect(help.split(separator: "\n").count { $0 == "    in force: the default" } == FortOption.all.count - 2)
    }

    // MARK: Round trips

    @Test func whatIsPrintedIsReadAsTheSame() throws {
        let seed = getenv("SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64.random(in: 0..<1_000_000)
        let scale = getenv("SCALE").flatMap { Int(String(cString: $0)) } ?? 1
        print("FortOptionsTests.whatIsPrintedIsReadAsTheSame: SEED=\(seed) SCALE=\(scale)")
        var random = Random(seed)
        for _ in 0..<(500 * scale) {
            var options = Self.plain
            options.boundary = random.one(of: Boundary.allCases)
            options.redundancy = random.number(1, 1000)
            options.intensity =
                random.coin ? .unlimited : RestartIntensity(random.number(0, 100), within: random.time(from: 1))
            options.backoff = random.backoff()
            options.shutdownTime = random.one(of: [.infinity, .brutalKill, .within(random.time(from: 0))])
            options.stopDeadline = random.time(from: 1)
            options.startDeadline = random.coin ? nil : random.time(from: 1)
            options.hangTime = random.coin ? nil : random.time(from: 1)
            options.leakBudget = random.bytes()
            options.reportDirectory = random.one(of: [nil, "/var/x y=1", "none", "relative/ünï"])
            options.reportLimits = ReportLimits(count: random.number(1, 1 << 40), bytes: random.bytes())
            options.workers = random.coin ? nil : random.number(1, 512)
            options.adoptsGlobalExecutor = random.coin
            options.logLevel = random.one(of: Logger.Level.allCases.map { $0 } + [nil])
            var environment: [String: String] = [:]
            for option in FortOption.all { environment[option.variable] = option.print(options) }
            let read = try Self.plain.reading(environment: environment)
            if options.reportDirectory == "none" { options.reportDirectory = "./none" }
            #expect(read.boundary == options.boundary && read.redundancy == options.redundancy, "\(environment)")
            #expect(read.intensity == options.intensity && read.backoff == options.backoff, "\(environment)")
            #expect(
                read.shutdownTime == options.shutdownTime && read.stopDeadline == options.stopDeadline,
                "\(environment)"
            )
            #expect(read.startDeadline == options.startDeadline, "\(environment)")
            #expect(read.hangTime == options.hangTime && read.leakBudget == options.leakBudget, "\(environment)")
            #expect(
                read.reportDirectory == options.reportDirectory && read.reportLimits == options.reportLimits,
                "\(environment)"
            )
            #expect(
                read.workers == options.workers && read.adoptsGlobalExecutor == options.adoptsGlobalExecutor,
                "\(environment)"
            )
            #expect(read.logLevel == options.logLevel, "\(environment)")
        }
    }

    /// SplitMix64.
    private struct Random: RandomNumberGenerator {
        private var state: UInt64
        init(_ seed: UInt64) { state = seed }

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var value = state
            value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
            return value ^ (value >> 31)
        }

        var coin: Bool { mutating get { Bool.random(using: &self) } }
        mutating func number(_ low: Int, _ high: Int) -> Int { Int.random(in: low...high, using: &self) }
        mutating func one<Value>(of values: [Value]) -> Value { values[number(0, values.count - 1)] }

        /// Of all sizes, in round numbers and others.
        mutating func time(from low: Int64) -> Duration {
            let unit: Int64 = one(of: [1, 1000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000])
            return .nanoseconds(max(low, Int64.random(in: 0...2000, using: &self) * unit))
        }

        mutating func bytes() -> Int { number(1, 4000) << (coin ? 0 : 10 * number(0, 4)) }

        mutating func backoff() -> Backoff {
            let jitter = coin ? 0 : Double.random(in: 0...1, using: &self)
            let reset = coin ? nil : time(from: 1)
            let (first, second) = (time(from: 0), time(from: 0))
            switch number(0, 3) {
            case 0: return .none
            case 1: return .constant(first, jitter: jitter, resetAfter: reset)
            case 2: return .linear(min(first, second), cap: max(first, second), jitter: jitter, resetAfter: reset)
            default: return .exponential(min(first, second), cap: max(first, second), jitter: jitter, resetAfter: reset)
            }
        }
    }

    // MARK: Whole programs

    struct Named: FortProgram {
        init() { say("made") }
        func run(in context: Context) async throws { say(context.name) }
    }

    @Test func aProgramGoesByItsEnvironment() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            setenv("BASTION_REDUNDANCY", "2", 1)
            setenv("BASTION_WORKERS", "1", 1)
            Named.main()
        }
        #expect(outputLines(result).sorted() == ["made", "main-0", "main-1"].sorted())
    }

    @Test func wrongOptionsEndAProgramBeforeAnythingStarts() async {
        let result = await #expect(
            processExitsWith: .exitCode(64),
            observing: [\.standardOutputContent, \.standardErrorContent]
        ) {
            setenv("BASTION_REDUNDANCY", "none", 1)
            setenv("BASTION_WORKRES", "2", 1)
            setenv("BASTION_BOUNDARY", "walled", 1)
            Named.main()
        }
        #expect(!outputLines(result).contains { $0 == "made" || $0.hasPrefix("main-") })
        let errors = errorLines(result).filter { $0.contains("BASTION_") }
        #expect(errors.count == 3)
        #expect(
            errors.first?.contains(": BASTION_BOUNDARY=walled cannot be used; allowed is in-process | guarded") == true
        )
        #expect(errors.last?.contains("did you mean BASTION_WORKERS?") == true)
    }

    @Test func theHelpIsPrintedAndNothingStarts() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            setenv("BASTION_WORKERS", "7", 1)
            _ = FortOptions.readOrExit(of: Named.self, arguments: ["server", "--port", "1", "--bastion-help"])
            say("started")
        }
        let lines = outputLines(result)
        #expect(lines.contains { $0.hasPrefix("BASTION_HANG_TIME=10s") })
        #expect(lines.contains("    in force: 7"))
        #expect(!lines.contains("started"))
    }

    @Test func theHelpIsNotPrintedForWhatComesAfterTheOptions() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            _ = FortOptions.readOrExit(of: Named.self, arguments: ["server", "--", "--bastion-help"])
            say("started")
            exit(0)
        }
        #expect(outputLines(result) == ["started"])
    }

    struct Made: FortProgram {
        let word: String
        init() { word = "by init" }
        init(_ word: String) { self.word = word }
        func run(in context: Context) async throws { say(word) }
    }

    @Test func aProgramCanBeMadeFromItsArguments() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            Fort.run { Made("by make") }
        }
        #expect(outputLines(result) == ["by make"])
    }

    @Test func aProgramThatCannotBeMadeEndsWithALine() async {
        let result = await #expect(processExitsWith: .exitCode(64), observing: [\.standardErrorContent]) {
            Fort.run { () throws -> Made in throw Failure() }
        }
        #expect(errorLines(result).contains { $0.hasSuffix(": cannot start: Failure()") })
    }

    @Test func optionsAreLookedAtBeforeAProgramIsMade() async {
        let result = await #expect(
            processExitsWith: .exitCode(64),
            observing: [\.standardOutputContent, \.standardErrorContent]
        ) {
            setenv("BASTION_REDUNDANCY", "0", 1)
            Fort.run { () -> Made in
                say("made")
                return Made("x")
            }
        }
        #expect(!outputLines(result).contains { $0 == "made" || $0.hasPrefix("main-") })
    }
}

func outputLines(_ result: ExitTest.Result?) -> [String] {
    String(decoding: result?.standardOutputContent ?? [], as: UTF8.self).split(separator: "\n").map(String.init)
}

func errorLines(_ result: ExitTest.Result?) -> [String] {
    String(decoding: result?.standardErrorContent ?? [], as: UTF8.self).split(separator: "\n").map(String.init)
}
