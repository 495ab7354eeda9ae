// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import LightProc

/// A supervisor with all below it, as seen from outside: nobody is asked, so it shows also what is stuck.
///
/// Not of one instant: children may come and go while it is made.
package struct TreeView: Sendable {
    /// Where the supervisor stands; empty: nowhere, the children below it nobody supervises.
    package let path: String
    package let process: ProcID
    package let hasEnded: Bool
    package let children: [Child]
    /// How many children are left out, as there are too many.
    package let others: Int

    package struct Child: Sendable {
        package let path: String
        package let process: ProcID
        /// Whether it is a supervisor itself; its children stand below.
        package let isSupervisor: Bool
        package let state: State
        package let restarts: Int
        package let load: ProcLoad
        /// Messages that wait; nil where nobody counts them: only mailboxes with a policy do.
        package let depth: Int?
        /// How the last incarnation ended, in a word; nil in the first.
        package let lastEnd: String?
        /// Supervisors that it is, or has started, also those that are being stopped after its end.
        package let below: [TreeView]
    }

    package enum State: String, Sendable {
        /// It was not started yet.
        case waiting
        case running
        /// It was asked to stop, and runs.
        case stopping
        /// Its end is decided: what is left of it winds up.
        case ending
        /// It has ended; perhaps it is started again.
        case down
    }
}

/// How much a view shows.
package struct TreeViewLimits: Sendable {
    /// Children of one supervisor.
    package var children: Int
    /// Children altogether.
    package var all: Int

    package init(children: Int, all: Int) {
        self.children = children
        self.all = all
    }
}

extension BastionSystem {
    /// The supervisors at the top with all below, in the order in which they were started; last the one of the processes that nobody
    /// supervises. Any thread; needs no worker. A lock for each supervisor and child, held no longer than the limits make it.
    package func views(_ limits: TreeViewLimits) -> [TreeView] {
        var left = limits.all
        return trees.map { $0.view(limits.children, &left) }
    }

    /// The paths of what has not ended, leaves only, and how many are left out.
    package func running(atMost limit: Int) -> (paths: [String], others: Int) {
        let views = views(TreeViewLimits(children: 10_000, all: 100_000))
        var paths: [String] = []
        for view in views { view.collectRunning(&paths) }
        let others = views.reduce(0) { $0 + $1.allOthers } + max(0, paths.count - limit)
        return (Array(paths.prefix(limit)), others)
    }

    /// Calls `action` with the path of each child that is killed as it has not stopped within its shutdown time, or that of what is above
    /// it. In its supervisor's process: must not block. For the rest of the system's life.
    package func onOverdueStop(_ action: @escaping @Sendable (_ path: String) -> Void) {
        _ = eventHub.add { [weak self] event in
            guard case .failed(let failure) = event.kind, case .killed = failure.reason else { return }
            // Killed as it should be.
            if self?.directory.process(event.process)?.shutdownTime.isBrutal == true { return }
            action(event.path)
        }
    }
}

extension TreeView {
    fileprivate func collectRunning(_ paths: inout [String]) {
        let before = paths.count
        for child in children {
            let count = paths.count
            for view in child.below { view.collectRunning(&paths) }
            // What it is, or has started, says more than its own name.
            guard paths.count == count else { continue }
            switch child.state {
            case .running, .stopping, .ending: paths.append(child.path)
            case .waiting, .down: break
            }
        }
        if paths.count == before, others == 0, !hasEnded, !path.isEmpty { paths.append(path) }
    }

    fileprivate var allOthers: Int {
        children.reduce(others) { $1.below.reduce($0) { $0 + $1.allOthers } }
    }
}

extension SupervisorCell {
    fileprivate func view(_ limit: Int, _ left: inout Int) -> TreeView {
        let (records, others) = roster.some(min(limit, left))
        left -= records.count
        return TreeView(
            path: path,
            process: proc.id,
            hasEnded: outcome != nil,
            children: records.map { $0.view(limit, &left) },
            others: others
        )
    }
}

extension ChildRecord {
    fileprivate func view(_ limit: Int, _ left: inout Int) -> TreeView.Child {
        TreeView.Child(
            path: "\(supervisor.path)/\(name)",
            process: proc.id,
            isSupervisor: nest != nil,
            state: TreeView.State(proc.state),
            restarts: proc.restarts,
            load: proc.load,
            depth: proc.managedQueue?.counters.depth,
            lastEnd: proc.lastExit.map(\.word),
            below: supervisorsAlsoEnding.map { $0.view(limit, &left) }
        )
    }
}

extension TreeView.State {
    fileprivate init(_ state: ProcState) {
        switch state.phase {
        case .created: self = .waiting
        case .active: self = state.isStopRequested ? .stopping : .running
        case .ending: self = .ending
        case .ended, .closed: self = .down
        }
    }
}

extension ExitReason {
    /// What kind of end it is. Describes no error: that would be the user's code.
    fileprivate var word: String {
        switch self {
        case .normal: "normal"
        case .shutdown: "shutdown"
        case .error: "error"
        case .trap(let report): "trap: \(report.kind)"
        case .killed: "killed"
        case .deadlineExceeded: "deadline exceeded"
        case .unresponsive: "unresponsive"
        case .linked(let id, _): "linked process \(id) ended"
        case .noProcess: "no process"
        }
    }
}
