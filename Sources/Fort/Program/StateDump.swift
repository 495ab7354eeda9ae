// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Supervision

/// What SIGQUIT prints: the tree of supervisors, and what each worker does.
///
/// Asks nobody, so it shows also what is stuck; made and printed on the thread that calls, which must be no worker.
struct StateDump {
    var program: String
    var views: [TreeView]
    var glances: [WorkerGlance] = []
    var workers: [WorkerCounters] = []
    var nodeQueueDepths: [Int] = []
    var blocking: BlockingCounters?
    var timers: [TimerCounters] = []

    private static let limits = TreeViewLimits(children: 1000, all: 10_000)
    /// So many frames of a stack are shown, of so many workers.
    private static let frameLimit = 24
    private static let stackLimit = 64

    /// Writes to the standard error. What needs symbols looked up comes last.
    static func print(_ system: BastionSystem, programName: String) {
        let dump = StateDump(of: system, programName)
        StandardStream.error.write(dump.text)
        StandardStream.error.write(dump.stacks)
    }

    init(program: String, views: [TreeView]) {
        self.program = program
        self.views = views
    }

    private init(of system: BastionSystem, _ program: String) {
        self.init(program: program, views: system.views(Self.limits))
        guard let pool = system.executor as? WorkerPool else { return }
        glances = pool.glances()
        workers = pool.counters
        nodeQueueDepths = pool.nodeQueueDepths
        blocking = pool.blockingCounters
        timers = pool.timerCounters
    }

    var text: String {
        var lines = ["--- state of \(program), process \(getpid())", "supervisors:"]
        for view in views { Self.add(view, 1, to: &lines) }
        if !glances.isEmpty {
            lines.append("workers:")
            lines += glances.map(line(of:))
            lines.append("  wait for any worker of a node: \(nodeQueueDepths.map(String.init).joined(separator: ", "))")
        }
        if let blocking {
            lines.append(
                "blocking threads: \(blocking.threads), idle \(blocking.idle); jobs waiting \(blocking.queued), begun \(blocking.jobs)"
                    + (blocking.queued > 0 ? "; the oldest waits since \(blocking.oldestWait)" : "")
            )
        }
        if !timers.isEmpty {
            let late = timers.map(\.maximumLateness).max() ?? .zero
            lines.append(
                "timers: pending \(timers.reduce(0) { $0 + $1.pending }), fired \(timers.reduce(0) { $0 + $1.fired }), at most \(late) late"
            )
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// Where the workers are that run something. Looks symbols up: milliseconds for an address that is new.
    var stacks: String {
        var lines: [String] = []
        for glance in glances.lazy.filter({ !$0.backtrace.isEmpty }).prefix(Self.stackLimit) {
            lines.append("stack of worker \(glance.worker):")
            let frames = TrapReport.frames(of: Array(glance.backtrace.prefix(Self.frameLimit)))
            lines += frames.enumerated().map { "  \($0.offset) \($0.element)" }
        }
        return (lines + ["--- end of state"]).joined(separator: "\n") + "\n"
    }

    private static func add(_ view: TreeView, _ depth: Int, to lines: inout [String]) {
        let name = view.path.isEmpty ? "processes that nobody supervises" : "\(view.path) \(view.process)"
        lines.append(indent(depth) + name + (view.hasEnded ? " ended" : ""))
        addChildren(of: view, depth + 1, to: &lines)
    }

    private static func addChildren(of view: TreeView, _ depth: Int, to lines: inout [String]) {
        for child in view.children {
            let kind = child.isSupervisor ? "supervisor, " : ""
            lines.append("\(indent(depth))\(child.path) \(child.process) \(kind)\(words(about: child))")
            for below in child.below {
                // Its own line is there already.
                if child.isSupervisor, below.path == child.path {
                    addChildren(of: below, depth + 1, to: &lines)
                } else {
                    add(below, depth + 1, to: &lines)
                }
            }
        }
        if view.others > 0 { lines.append("\(indent(depth))and \(view.others) more") }
    }

    private static func indent(_ depth: Int) -> String { String(repeating: "  ", count: depth) }

    private static func words(about child: TreeView.Child) -> String {
        var words = [child.state.rawValue]
        switch child.state {
        case .running, .stopping: words.append(child.load == .waiting ? "messages wait" : "\(child.load)")
        case .waiting, .ending, .down: break
        }
        if let depth = child.depth { words.append("mailbox \(depth)") }
        if child.restarts > 0 { words.append(child.restarts == 1 ? "1 restart" : "\(child.restarts) restarts") }
        if let lastEnd = child.lastEnd { words.append("last: \(lastEnd)") }
        return words.joined(separator: ", ")
    }

    private func line(of glance: WorkerGlance) -> String {
        let what =
            switch glance.activity {
            case .parked: "parked"
            case .searching: "looks for something to do"
            case .job: "runs a job of no process"
            case .silent: "runs something, does not tell what"
            case .vacant: "has no thread"
            case .process(let id, let name, let path, let messageType):
                "runs \(path ?? name ?? "")\(id)\(messageType.map { ", handling \($0)" } ?? "")"
            }
        var line = "  \(glance.worker)\(glance.isStandIn ? " (stands in)" : ""): \(what)"
        if let counters = workers.first(where: { $0.worker == glance.worker }) {
            line +=
                "; turns \(counters.polls), ready \(counters.queueDepth), sleeps \(counters.parks), busy \(counters.busyTime)"
        }
        return line
    }
}
