// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// How far the program has come, and who is told of it: the guard or systemd, and whoever reads the record after its death.
final class ProgramState: Sendable {
    enum Stage: UInt32 {
        case starting = 0
        case ready, reloading, stopping
    }

    /// The connection with the guard; nil if there is none.
    let link: GuardLink?
    /// Shared with the guard if there is one.
    let record: ProcessRecord?
    private let options: FortOptions
    private let stage = Locked(Stage.starting)

    init(link: GuardLink?, _ options: FortOptions) {
        self.link = link
        self.options = options
        record = link?.record ?? OwnRecord.make(options)
    }

    /// How far it has come.
    var current: Stage { stage.withLock { $0 } }

    /// The program has come so far: `ready` after `starting`, `reloading` after `ready`, `stopping` after all others.
    ///
    /// - Returns: False, and nothing is told, where it comes from another stage: then it is further, or not so far.
    @discardableResult
    func enter(_ next: Stage) -> Bool {
        move(to: next) { stage in
            switch next {
            case .starting: false
            case .ready: stage == .starting
            case .reloading: stage == .ready
            case .stopping: stage != .stopping
            }
        }
    }

    /// It is ready again.
    func reloaded() { _ = move(to: .ready) { $0 == .reloading } }

    private func move(to next: Stage, if isAllowed: (Stage) -> Bool) -> Bool {
        stage.withLock { stage in
            guard isAllowed(stage) else { return false }
            stage = next
            record?.enter(next)
            link?.tell(next)
            ServiceManager.tell(next, options)
            return true
        }
    }

    /// Why the program ends by itself, for whoever reads its record.
    func leave(_ lastWords: String) { record?.leave(lastWords) }
}
