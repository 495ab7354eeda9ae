// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Supervision

/// Makes of the elements of a scenario what a supervisor takes.
struct TreeMaker: Sendable {
    let witness: Witness

    /// What a supervisor starts with; the template of a dynamic one is none of it.
    @ChildrenBuilder
    func children(_ elements: [TreeElement], below flags: SupervisorFlags) -> [Children] {
        if flags.strategy != .simpleOneForOne {
            for element in elements {
                switch element {
                case .child(let spec):
                    Puppet(spec: spec, witness: witness).children
                case .supervisor(let name, let flags, let restart, let below):
                    supervisor(name, flags, restart, below)
                }
            }
        }
    }

    private func supervisor(
        _ name: String,
        _ flags: SupervisorFlags,
        _ restart: RestartFlags,
        _ below: [TreeElement]
    ) -> Supervisor {
        let witness = witness
        return Supervisor(
            name,
            strategy: flags.restartStrategy,
            intensity: flags.restartIntensity,
            autoShutdown: flags.automaticShutdown,
            restart: restart.kind.restartType,
            callbacks: Callbacks(beforeStart: { _ in witness.note("start \(name)") })
        ) {
            for children in children(below, below: flags) { children }
        }
        .significant(restart.isSignificant)
    }
}

extension RestartFlags.Kind {
    var restartType: RestartType {
        switch self {
        case .permanent: .permanent
        case .transient: .transient
        case .temporary: .temporary
        }
    }
}

extension SupervisorFlags {
    var restartStrategy: RestartStrategy {
        switch strategy {
        case .oneForOne: .oneForOne
        case .oneForAll: .oneForAll
        case .restForOne: .restForOne
        case .simpleOneForOne: .dynamic
        }
    }

    var restartIntensity: RestartIntensity { RestartIntensity(intensity, within: period) }

    var automaticShutdown: Supervision.AutoShutdown {
        switch autoShutdown {
        case .never: .never
        case .anySignificant: .anySignificant
        case .allSignificant: .allSignificant
        }
    }
}
