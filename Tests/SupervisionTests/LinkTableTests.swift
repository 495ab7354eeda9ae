// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Erlang/OTP's rules, as a table: {normal, shutdown, error, trap, killed} x {linked, linked and trapping, monitoring} x kinds.
///
/// OTP 25 says, for a process that ends normally, with `shutdown`, with `boom`, and by `kill` (its traps are the errors of `boom`):
///
/// | end | linked | linked, trapping | monitoring |
/// |---|---|---|---|
/// | normal | lives | `{'EXIT', _, normal}` | `{'DOWN', ..., normal}` |
/// | shutdown | dies of shutdown | `{'EXIT', _, shutdown}` | `{'DOWN', ..., shutdown}` |
/// | boom | dies of boom | `{'EXIT', _, boom}` | `{'DOWN', ..., boom}` |
/// | kill | dies of killed | `{'EXIT', _, killed}` | `{'DOWN', ..., killed}` |
@Suite struct LinkTableTests {
    enum Tie: CaseIterable, Sendable { case linked, trapping, monitoring, bystander }

    struct Case: Sendable, CustomTestStringConvertible {
        let end: End
        let tie: Tie
        let ending: Stage.Kind
        let other: Stage.Kind
        var testDescription: String {
            "\(ending.testDescription) ends: \(end); \(other.testDescription): \(tie)"
        }
        static let all: [Case] = End.allCases.flatMap { end in
            Tie.allCases.flatMap { tie in
                Stage.Kind.withManaged.flatMap { ending in
                    Stage.Kind.withManaged.map { Case(end: end, tie: tie, ending: ending, other: $0) }
                }
            }
        }
    }

    @Test(arguments: Case.all)
    func everyEndHasTheEffectThatItHasInOTP(_ each: Case) throws {
        let sim = Simulation()
        let stage = Stage()
        try stage.spawn(each.ending, in: sim.system)
        try stage.spawn(each.other, in: sim.system)
        switch each.tie {
        case .linked: stage[1].tell(.link(0))
        case .trapping: stage[1].tell(.all([.trapExits(true), .link(0)]))
        case .monitoring: stage[1].tell(.monitor(0))
        case .bystander: break
        }
        sim.drain()
        stage.end(0, each.end)
        sim.drain()

        #expect(stage[0].proc.isClosed)
        #expect(stage.exit(0) == each.end.rawValue)
        switch each.tie {
        case .linked where each.end != .normal:
            #expect(stage.exit(1) == (each.end == .shutdown ? "shutdown" : "linked 0 \(each.end)"))
            #expect(stage[1].proc.isClosed && stage.told(1) == [])
        case .linked, .bystander:
            #expect(!stage[1].proc.isClosed && stage.told(1) == [])
        case .trapping:
            #expect(!stage[1].proc.isClosed && stage.told(1) == ["exit 0 \(each.end)"])
        case .monitoring:
            #expect(!stage[1].proc.isClosed && stage.told(1) == ["down 0 \(each.end)"])
        }
        // And it has no effect the other way round, or a second time.
        stage[1].proc.kill()
        sim.drain()
        #expect(stage.told(1) == [])
        #expect(Bonds.existing(of: stage[1].proc)?.isEmpty ?? true)
        #expect(Bonds.existing(of: stage[0].proc)?.isEmpty ?? true)
    }

    @Test(arguments: End.allCases, Stage.Kind.withManaged)
    func anExitThatIsSentHasTheEffectThatItHasInOTP(end: End, kind: Stage.Kind) throws {
        for isTrapping in [false, true] {
            let sim = Simulation()
            let stage = Stage()
            try stage.spawn(.init(isReactive: true), in: sim.system)
            try stage.spawn(kind, in: sim.system)
            if isTrapping { stage[1].tell(.trapExits(true)) }
            sim.drain()
            stage[0].tell(.send(1, end))
            sim.drain()
            let sent = end == .trap ? "error" : end.rawValue
            if isTrapping, end != .killed {
                #expect(stage.told(1) == ["exit 0 \(sent)"] && !stage[1].proc.isClosed)
            } else if end == .normal {
                #expect(stage.told(1) == [] && !stage[1].proc.isClosed)
            } else {
                #expect(stage.exit(1) == sent && stage[1].proc.isClosed)
            }
            // To oneself `normal` is an end.
            if stage[1].proc.isClosed { continue }
            stage[1].tell(.send(1, .normal))
            sim.drain()
            if isTrapping {
                #expect(stage.told(1) == ["exit 1 normal"] && !stage[1].proc.isClosed)
            } else {
                #expect(stage.exit(1) == "normal" && stage[1].proc.isClosed)
            }
        }
    }
}

extension Bonds {
    /// Whether nothing is left in the tables.
    var isEmpty: Bool {
        content.withLock {
            $0.watched.isEmpty && $0.watchers.isEmpty && $0.links.isEmpty && $0.exits.isEmpty && $0.trap == nil
        }
    }
}
