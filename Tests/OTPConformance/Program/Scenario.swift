// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A tree of supervisors, and what happens to it. The format is in Tests/OTPConformance/README.md.
struct Scenario: Equatable, Sendable {
    let name: String
    /// Whether the trace says when things happened.
    let isTimed: Bool
    /// Whether starts that follow each other are sorted in the trace.
    let isUnordered: Bool
    let flags: SupervisorFlags
    /// Below the root, in start order.
    let children: [TreeElement]
    let events: [Event]
}

/// What OTP calls the supervisor's flags.
struct SupervisorFlags: Equatable, Sendable {
    enum Strategy: String, CaseIterable, Sendable {
        case oneForOne = "one_for_one"
        case oneForAll = "one_for_all"
        case restForOne = "rest_for_one"
        case simpleOneForOne = "simple_one_for_one"
    }
    enum AutoShutdown: String, CaseIterable, Sendable {
        case never
        case anySignificant = "any_significant"
        case allSignificant = "all_significant"
    }

    let strategy: Strategy
    let intensity: Int
    let period: Duration
    let autoShutdown: AutoShutdown
}

/// When a child is restarted, and what that means to its supervisor.
struct RestartFlags: Equatable, Sendable {
    enum Kind: String, CaseIterable, Sendable {
        case permanent
        case transient
        case temporary
    }

    let kind: Kind
    let isSignificant: Bool
}

struct ChildSpec: Equatable, Sendable {
    enum Shutdown: Equatable, Sendable {
        case time(milliseconds: Int)
        case kill
        case infinity
    }
    /// What a child does when it is told to stop.
    enum Manner: Equatable, Sendable {
        /// It says so, and ends.
        case obeys
        /// It ends without a word, also when a process ends that it is linked to: it does not trap exits.
        case plain
        /// It says so, and goes on.
        case stubborn
        /// It says so, and ends after a while.
        case slow(milliseconds: Int)
    }

    let name: String
    let restart: RestartFlags
    let shutdown: Shutdown
    let manner: Manner
}

/// What stands below a supervisor.
indirect enum TreeElement: Equatable, Sendable {
    case child(ChildSpec)
    case supervisor(String, SupervisorFlags, RestartFlags, [TreeElement])

    var name: String {
        switch self {
        case .child(let spec): spec.name
        case .supervisor(let name, _, _, _): name
        }
    }
}

/// One event, with its words as they are repeated in the trace.
struct Event: Equatable, Sendable {
    enum Kind: Equatable, Sendable {
        enum End: String, CaseIterable, Sendable {
            case crash
            case exit
            case shutdown
        }
        enum Call: String, CaseIterable, Sendable {
            case terminate
            case restart
            case delete
        }
        enum Bond: String, CaseIterable, Sendable {
            case link
            case unlink
            case monitor
            case demonitor
        }

        case end(End, child: String)
        /// Both crash, one after the other, before their supervisor learns of it.
        case both(supervisor: String, child: String, other: String)
        case failStart(child: String, times: Int)
        case call(Call, supervisor: String, child: String)
        case start(supervisor: String, ChildSpec)
        case spawn(supervisor: String, child: String)
        case count(supervisor: String)
        case spec(supervisor: String, child: String)
        case changeFlags(supervisor: String, SupervisorFlags)
        case changeChild(supervisor: String, ChildSpec)
        case bond(Bond, child: String, other: String)
        case sleep(milliseconds: Int)
    }

    let text: String
    let kind: Kind
}
