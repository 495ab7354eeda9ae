// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc

/// What is worse with a pool than it could be, in sentences; also told on standard error, unless that is not wanted.
final class PoolWarnings: Sendable {
    private struct State {
        var list: [String]
        var hasToldOfPlaces = false
    }
    private let state: Locked<State>
    private let isWriting: Bool

    /// - Parameters:
    ///   - known: What is known before there are threads; written at once.
    ///   - isWriting: Whether anything is written.
    init(_ known: [String], isWriting: Bool) {
        state = Locked(State(list: known))
        self.isWriting = isWriting
        for warning in known { write(warning) }
    }

    var list: [String] { state.withLock { $0.list } }

    /// Keeps a warning, and writes it, unless it is there already.
    func add(_ warning: String) {
        let isNew = state.withLock { state in
            defer { if !state.list.contains(warning) { state.list.append(warning) } }
            return !state.list.contains(warning)
        }
        if isNew { write(warning) }
    }

    /// Calls a closure that puts the calling thread in its place. A refusal leaves it where it is: slower, not wrong.
    ///
    /// Each is kept once; the first of all is written, as others are likely to be refused for the same reason.
    func place(_ thread: @autoclosure () -> String, _ body: () throws(TopologyError) -> Void) {
        do throws(TopologyError) {
            try body()
        } catch {
            let warning = "\(thread()): \(error.description)"
            let isFirst = state.withLock { state in
                if !state.list.contains(warning) { state.list.append(warning) }
                defer { state.hasToldOfPlaces = true }
                return !state.hasToldOfPlaces
            }
            if isFirst { write(warning) }
        }
    }

    private func write(_ warning: String) {
        guard isWriting else { return }
        // What cannot be written to stderr cannot be told otherwise either.
        "bastion: \(warning)\n".withCString { _ = Glibc.write(STDERR_FILENO, $0, strlen($0)) }
    }
}
