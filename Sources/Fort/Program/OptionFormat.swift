// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Logging
import Supervision

/// How values of a type are written in the environment, and which of them make sense. Pure.
///
/// What makes sense and is written is read as the same value.
struct OptionFormat<Value: Sendable>: Sendable {
    /// What may be written, as in `5/10s | unlimited`.
    let text: String
    /// Nil for what is not of this format.
    let parse: @Sendable (String) -> Value?
    let print: @Sendable (Value) -> String
    /// Why a value makes no sense, to go on with after its name; nil if it does.
    var flaw: @Sendable (Value) -> String? = { _ in nil }
}

extension OptionFormat where Value == Int {
    static let count = OptionFormat(
        text: "1, 2, 3, ...",
        parse: wholeNumber,
        print: { "\($0)" },
        flaw: { $0 < 1 ? "must be at least 1, got \($0)" : nil }
    )

    static let bytes = OptionFormat(
        text: "bytes, or as in 512KiB, 256MiB, 1GiB",
        parse: ByteCount.parse,
        print: ByteCount.print,
        flaw: { $0 < 1 ? "must be at least 1 byte, got \($0)" : nil }
    )
}

extension OptionFormat where Value == Int? {
    static let countOrAll = OptionFormat(
        text: "1, 2, 3, ... | all",
        parse: { $0 == "all" ? .some(nil) : wholeNumber($0).map { .some($0) } },
        print: { $0.map { "\($0)" } ?? "all" },
        flaw: { count in count.flatMap { $0 < 1 ? "must be at least 1, got \($0)" : nil } }
    )
}

extension OptionFormat where Value == Bool {
    static let yesOrNo = OptionFormat(
        text: "yes | no",
        parse: { $0 == "yes" ? true : $0 == "no" ? false : nil },
        print: { $0 ? "yes" : "no" }
    )
}

extension OptionFormat where Value == String? {
    static let pathOrNone = OptionFormat(
        text: "a path | none",
        parse: { $0 == "none" ? .some(nil) : $0.isEmpty ? nil : .some($0) },
        print: { path in path.map { $0 == "none" ? "./none" : $0 } ?? "none" },
        flaw: { path in
            path?.isEmpty == true ? "must not be empty; nil is for none" : nil
        }
    )
}

extension OptionFormat where Value == Boundary {
    static let boundary = OptionFormat(
        text: Boundary.allCases.map(\.rawValue).joined(separator: " | "),
        parse: Boundary.init,
        print: \.rawValue
    )
}

extension OptionFormat where Value == Logger.Level? {
    static let logLevel = OptionFormat(
        text: (Logger.Level.allCases.map(\.rawValue) + ["unchanged"]).joined(separator: " | "),
        parse: { $0 == "unchanged" ? .some(nil) : Logger.Level(rawValue: $0).map { .some($0) } },
        print: { $0?.rawValue ?? "unchanged" }
    )
}

extension OptionFormat where Value == Duration {
    /// A time that may pass.
    static let time = OptionFormat(
        text: "a time, as in 250ms, 10s, 5m, 2h",
        parse: TimeText.parse,
        print: TimeText.print,
        flaw: { $0 <= .zero ? "must be positive, got \(TimeText.print($0))" : TimeText.tooLong($0) }
    )
}

extension OptionFormat where Value == Duration? {
    static let timeOrNever = OptionFormat(
        text: "a time, as in 250ms, 10s, 5m, 2h | never",
        parse: { $0 == "never" ? .some(nil) : TimeText.parse($0).map { .some($0) } },
        print: { $0.map(TimeText.print) ?? "never" },
        flaw: { time in time.flatMap { OptionFormat<Duration>.time.flaw($0) } }
    )
}

extension OptionFormat where Value == ShutdownTime {
    static let shutdownTime = OptionFormat(
        text: "a time, as in 250ms, 10s, 5m | infinity | kill",
        parse: { text in
            switch text {
            case "infinity": .infinity
            case "kill": .brutalKill
            default: TimeText.parse(text).map { .within($0) }
            }
        },
        print: { value in
            value.isBrutal ? "kill" : value.time.map(TimeText.print) ?? "infinity"
        },
        flaw: { value in
            value.time.flatMap {
                $0 < .zero ? "must not be negative, got \(TimeText.print($0))" : TimeText.tooLong($0)
            }
        }
    )
}

extension OptionFormat where Value == RestartIntensity {
    static let intensity = OptionFormat(
        text: "restarts/time, as in 5/10s | unlimited",
        parse: { text in
            if text == "unlimited" { return .unlimited }
            let parts = text.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 2, let maximum = wholeNumber(String(parts[0])), maximum >= 0,
                let period = TimeText.parse(String(parts[1])), period > .zero
            else { return nil }
            return RestartIntensity(maximum, within: period)
        },
        print: { value in
            value.maximum.map { "\($0)/\(TimeText.print(value.period))" } ?? "unlimited"
        },
        flaw: { TimeText.tooLong($0.period) }
    )
}

extension OptionFormat where Value == Backoff {
    /// `none`; `100ms`, always the same; `1ms..1s`, doubling up to a cap; `1s..10s,linear`, each longer by the first. Then `,jitter=0.2` and
    /// `,reset=5m` where they are wanted.
    static let backoff = OptionFormat(
        text: "none | 100ms | 1ms..1s (doubling) | 1s..9s,linear; then ,jitter=0.2 and ,reset=5m if wanted",
        parse: { text in BackoffText.parse(text) },
        print: { value in BackoffText.print(value) },
        flaw: { value in
            if let flaw = value.flaw { return "is wrong: \(flaw)" }
            return TimeText.tooLong(value.first) ?? value.resetAfter.flatMap(TimeText.tooLong)
                ?? (value.growth == .constant ? nil : TimeText.tooLong(value.cap))
        }
    )
}

/// Digits only.
private func wholeNumber(_ text: String) -> Int? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
        return nil
    }
    return Int(text)
}

/// Times as `250ms`: a number, perhaps with decimals, and a unit; whole nanoseconds.
enum TimeText {
    private static let units: [(name: String, nanoseconds: Int64)] = [
        ("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000),
        ("ms", 1_000_000), ("us", 1000), ("ns", 1),
    ]

    static func parse(_ text: String) -> Duration? {
        let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let unit = units.first(where: { $0.name == text[number.endIndex...] }) else { return nil }
        let parts = number.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2, let whole = wholeNumber(String(parts[0])) else { return nil }
        var (nanoseconds, overflows) = Int64(whole).multipliedReportingOverflow(by: unit.nanoseconds)
        if parts.count == 2 {
            var rest = unit.nanoseconds
            guard !parts[1].isEmpty else { return nil }
            for digit in parts[1] {
                guard rest % 10 == 0, let value = digit.wholeNumberValue else { return nil }
                rest /= 10
                let (sum, isOver) = nanoseconds.addingReportingOverflow(Int64(value) * rest)
                nanoseconds = sum
                overflows = overflows || isOver
            }
        }
        return overflows ? nil : .nanoseconds(nanoseconds)
    }

    /// In the largest unit of which it is a whole number.
    static func print(_ time: Duration) -> String {
        let nanoseconds = time.inNanoseconds
        guard nanoseconds != 0, let unit = units.first(where: { nanoseconds % $0.nanoseconds == 0 }) else {
            return "0s"
        }
        return "\(nanoseconds / unit.nanoseconds)\(unit.name)"
    }

    /// What timers do not count to; see `ShutdownTime.limit`.
    static func tooLong(_ time: Duration) -> String? {
        time > longest ? "must be at most \(print(longest)), got \(print(time))" : nil
    }

    static let longest = Duration.seconds(10_000 * 86_400)
}

/// Numbers of bytes as `256MiB`.
enum ByteCount {
    private static let units: [(name: String, bytes: Int)] = [
        ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000), ("B", 1), ("", 1),
    ]

    static func parse(_ text: String) -> Int? {
        let number = text.prefix { $0.isASCII && $0.isNumber }
        guard let unit = units.first(where: { $0.name == text[number.endIndex...] }),
            let count = wholeNumber(String(number))
        else { return nil }
        let (bytes, overflows) = count.multipliedReportingOverflow(by: unit.bytes)
        return overflows ? nil : bytes
    }

    /// In the largest binary unit of which it is a whole number.
    static func print(_ bytes: Int) -> String {
        guard bytes > 0, let unit = units.prefix(4).first(where: { bytes % $0.bytes == 0 }) else { return "\(bytes)" }
        return "\(bytes / unit.bytes)\(unit.name)"
    }
}

/// See `OptionFormat.backoff`.
private enum BackoffText {
    static func parse(_ text: String) -> Backoff? {
        var parts = text.split(separator: ",", omittingEmptySubsequences: false)
        let first = parts.removeFirst()
        if first == "none" { return parts.isEmpty ? Backoff.none : nil }
        var isLinear = false
        var jitter: Double?
        var reset: Duration?
        for part in parts {
            if part == "linear", !isLinear {
                isLinear = true
            } else if part.hasPrefix("jitter="), jitter == nil, let value = Double(part.dropFirst(7)) {
                jitter = value
            } else if part.hasPrefix("reset="), reset == nil, let value = TimeText.parse(String(part.dropFirst(6))) {
                reset = value
            } else {
                return nil
            }
        }
        let jitterOrNone = jitter ?? 0
        guard let dots = first.firstRange(of: "..") else {
            guard !isLinear, let delay = TimeText.parse(String(first)) else { return nil }
            return .constant(delay, jitter: jitterOrNone, resetAfter: reset)
        }
        guard let start = TimeText.parse(String(first[..<dots.lowerBound])),
            let cap = TimeText.parse(String(first[dots.upperBound...]))
        else { return nil }
        return isLinear
            ? .linear(start, cap: cap, jitter: jitterOrNone, resetAfter: reset)
            : .exponential(start, cap: cap, jitter: jitterOrNone, resetAfter: reset)
    }

    static func print(_ backoff: Backoff) -> String {
        if backoff == .none { return "none" }
        let first = TimeText.print(backoff.first)
        var parts: [String]
        switch backoff.growth {
        case .constant: parts = [first]
        case .linear: parts = ["\(first)..\(TimeText.print(backoff.cap))", "linear"]
        case .exponential: parts = ["\(first)..\(TimeText.print(backoff.cap))"]
        }
        if backoff.jitter != 0 { parts.append("jitter=\(backoff.jitter)") }
        if let reset = backoff.resetAfter { parts.append("reset=\(TimeText.print(reset))") }
        return parts.joined(separator: ",")
    }
}
