// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

/// Models of the lock-free protocols, and mutations of them that must be found. One at a time: see ``Model/running``.
@Suite(.serialized)
enum ModelTests {}

/// The protocol holds in every schedule within the bounds.
func expectHolds(
    _ name: String,
    preemptions: Int = 2,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ setUp: (Model) -> Void
) {
    let outcome = Model.check(preemptions: preemptions, setUp)
    report(name, outcome, "holds")
    if let failure = outcome.failure { Issue.record(failure, sourceLocation: sourceLocation) }
}

/// A mutation of the protocol fails in some schedule.
func expectFound(
    _ name: String,
    _ mutation: Model.Mutation? = nil,
    preemptions: Int = 2,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ setUp: (Model) -> Void
) {
    let outcome = Model.check(preemptions: preemptions, mutation: mutation, setUp)
    report(name + (mutation.map { ", \($0)" } ?? ""), outcome, "mutation NOT FOUND")
    #expect(outcome.failure != nil, "no schedule shows what is wrong", sourceLocation: sourceLocation)
}

private func report(_ name: String, _ outcome: Model.Outcome, _ word: String) {
    let seconds = (outcome.seconds * 100).rounded() / 100
    let result = outcome.failure.map { "found: \($0.message)" } ?? word
    print("model: \(name): \(outcome.executions) executions, \(outcome.steps) steps, \(seconds) s: \(result)")
}
