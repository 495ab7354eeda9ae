// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What a supervisor goes by.
struct SupervisionRules: Sendable {
    var strategy: RestartStrategy = .oneForOne
    var intensity: RestartIntensity
    var autoShutdown: AutoShutdown = .never

    /// - Throws: `badIntensity`, `significantWithoutAutoShutdown`.
    func validate(_ specs: [Children], of name: String) throws(SupervisionError) {
        if let flaw = intensity.flaw { throw SupervisionError(.badIntensity, "supervisor \(name): \(flaw)") }
        guard autoShutdown == .never, let spec = specs.first(where: \.features.isSignificant) else { return }
        throw SupervisionError(
            .significantWithoutAutoShutdown,
            "group \(spec.name) is significant, but the supervisor \(name) never shuts itself down; give it an autoShutdown"
        )
    }
}
