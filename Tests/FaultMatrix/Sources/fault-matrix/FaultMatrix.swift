// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime

/// The fault model, tried out: every kind of trap in every place of a process, and what must not be contained.
///
///     fault-matrix [NAME...]              cases by name, kind or place, and behaviours (default: all), one line each
///     fault-matrix --storm N [--seed S] [--kind KIND]
///     fault-matrix --escalate CASE        ends by the signal that it would have ended by without us
///     fault-matrix --brink CASE ROOM      uses up the stack with so many bytes left: survives, or ends by SIGSEGV
///     fault-matrix --list | --list-escalations | --list-brinks
@main
enum FaultMatrix {
    static func main() async {
        var arguments = CommandLine.arguments.dropFirst()
        switch arguments.first {
        case "--list":
            for each in Case.all { say("\(each)") }
            for each in Behaviour.allCases { say("\(each)") }
        case "--list-escalations":
            for each in Escalation.allCases { say("\(each) \(each.signal) \(each.words ?? "-")") }
        case "--list-brinks": for each in Brink.allCases { say("\(each) \(each.words)") }
        case "--storm":
            let count = value(after: "--storm", in: arguments).flatMap { Int($0) } ?? 100_000
            let seed = value(after: "--seed", in: arguments).flatMap { UInt64($0) } ?? UInt64(seconds() * 1e6)
            let kind = value(after: "--kind", in: arguments).map { known(Misdeed.init(rawValue:), $0) }
            say("SEED=\(seed)")
            Watchdog.start("storm", seconds: 900)
            let storm = Storm(count: count, seed: seed, misdeeds: kind.map { [$0] } ?? Misdeed.allCases)
            exit(await storm.run(pool()) ? 0 : 1)
        case "--escalate":
            arguments = arguments.dropFirst()
            let escalation = known(Escalation.init(rawValue:), arguments.first)
            Watchdog.start("\(escalation)", seconds: 60)
            await escalation.commit(in: BastionSystem(name: "matrix", executor: pool()))
            say("FAILED \(escalation): the program goes on")
            exit(1)
        case "--brink":
            arguments = arguments.dropFirst()
            let brink = known(Brink.init(rawValue:), arguments.first)
            guard let room = arguments.dropFirst().first.flatMap({ Int($0) }) else { usage("a room is needed") }
            Watchdog.start("\(brink) with \(room) bytes", seconds: 60)
            let system = BastionSystem(name: "matrix", executor: pool())
            exit(await brink.isHarmless(withRoom: room, in: system) ? 0 : 1)
        default:
            let cases = arguments.isEmpty ? Case.all : arguments.flatMap { Case.named($0) }
            let behaviours = arguments.isEmpty ? Behaviour.allCases : arguments.compactMap(Behaviour.init)
            if cases.isEmpty, behaviours.isEmpty { usage("no such case") }
            let matrix = await Matrix(pool())
            exit(await matrix.run(cases, behaviours) ? 0 : 1)
        }
    }

    private static func pool() -> WorkerPool {
        do {
            return try WorkerPool(workers: 2)
        } catch {
            usage("no workers: \(error)")
        }
    }

    private static func value(after option: String, in arguments: ArraySlice<String>) -> String? {
        guard let index = arguments.firstIndex(of: option), index + 1 < arguments.endIndex else { return nil }
        return arguments[index + 1]
    }

    private static func known<Value>(_ make: (String) -> Value?, _ name: String?) -> Value {
        guard let value = name.flatMap(make) else { usage("no case \(name ?? "given")") }
        return value
    }

    private static func usage(_ complaint: String) -> Never {
        say("fault-matrix: \(complaint); see the comment in FaultMatrix.swift")
        exit(64)
    }
}
