// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Random graphs of links and monitors with random ends, against a small model of OTP's rules.
@Suite struct LinkModelTests {
    /// OTP's rules, for processes with numbers.
    struct Model {
        struct Process {
            var isAlive = true
            var isTrapping = false
            var monitors: [Int: Int] = [:]
            var links: Set<Int> = []
            var reason: String?
        }
        var processes: [Process]
        let restarts: Bool
        /// What those were told who have not died meanwhile.
        var told: [Int: [String]] = [:]
        var died: Set<Int> = []

        init(_ count: Int, restarts: Bool) {
            processes = Array(repeating: Process(), count: count)
            self.restarts = restarts
        }

        mutating func link(_ a: Int, _ b: Int) {
            guard a != b, processes[a].isAlive else { return }
            if processes[b].isAlive {
                processes[a].links.insert(b)
                processes[b].links.insert(a)
            } else {
                exit(b, "noProcess", to: a, ending: "linked \(b) noProcess")
            }
        }

        mutating func unlink(_ a: Int, _ b: Int) {
            processes[a].links.remove(b)
            processes[b].links.remove(a)
        }

        mutating func monitor(_ a: Int, _ b: Int) {
            if processes[b].isAlive {
                processes[a].monitors[b, default: 0] += 1
            } else {
                told[a, default: []].append("down \(b) noProcess")
            }
        }

        private mutating func exit(
            _ from: Int,
            _ reason: String,
            to number: Int,
            ending: String?,
            trappable: Bool = true
        ) {
            guard processes[number].isAlive else { return }
            if trappable, processes[number].isTrapping {
                told[number, default: []].append("exit \(from) \(reason)")
            } else if let ending {
                end(number, ending)
            }
        }

        mutating func send(_ a: Int, _ b: Int, _ end: End) {
            let reason = end == .trap ? "error" : end.rawValue
            exit(a, reason, to: b, ending: end == .normal && a != b ? nil : reason, trappable: end != .killed)
        }

        mutating func end(_ number: Int, _ reason: String) {
            guard processes[number].isAlive else { return }
            let links = processes[number].links
            processes[number] = Process()
            processes[number].isAlive = false
            processes[number].reason = reason
            died.insert(number)
            for other in processes.indices where other != number {
                guard processes[other].isAlive, let count = processes[other].monitors.removeValue(forKey: number)
                else { continue }
                told[other, default: []] += Array(repeating: "down \(number) \(reason)", count: count)
            }
            for other in links.sorted() {
                processes[other].links.remove(number)
                let ending =
                    reason == "normal"
                    ? nil : reason.hasPrefix("linked") || reason == "shutdown" ? reason : "linked \(number) \(reason)"
                exit(number, reason, to: other, ending: ending)
            }
        }

        /// The step is over.
        mutating func settle() {
            told = [:]
            if restarts { for number in died { processes[number] = Process() } }
            died = []
        }
    }

    @Test(arguments: RandomTest.seeds("links and monitors", count: 60), [false, true])
    func randomGraphsBehaveAsInOTP(seed: UInt64, restarts: Bool) throws {
        var random = SplitMix64(seed: seed)
        let sim = Simulation(seed: seed)
        let stage = Stage()
        let count = 6
        for _ in 0..<count {
            let kind = Stage.Kind.withManaged.randomElement(using: &random)!
            if restarts {
                try stage.supervise(kind, restart: .permanent, in: sim.system)
            } else {
                try stage.spawn(kind, in: sim.system)
            }
        }
        sim.drain()
        var model = Model(count, restarts: restarts)
        for step in 0..<60 {
            let (a, b) = (Int.random(in: 0..<count, using: &random), Int.random(in: 0..<count, using: &random))
            let what: String
            switch Int.random(in: 0..<(restarts ? 20 : 24), using: &random) {
            case 0..<6:
                what = "\(a) links \(b)"
                stage[a].tell(.link(b))
                if model.processes[a].isAlive { model.link(a, b) }
            case 6..<8:
                what = "\(a) unlinks \(b)"
                stage[a].tell(.unlink(b))
                if model.processes[a].isAlive { model.unlink(a, b) }
            case 8..<11:
                what = "\(a) monitors \(b)"
                stage[a].tell(.monitor(b))
                if model.processes[a].isAlive { if a != b { model.monitor(a, b) } }
            case 11, 12:
                what = "\(a) demonitors \(b)"
                let flush = Bool.random(using: &random)
                guard model.processes[a].isAlive, model.processes[a].monitors[b] ?? 0 > 0 else { continue }
                stage[a].tell(.demonitor(b, flush: flush))
                model.processes[a].monitors[b]! -= 1
                model.told[a, default: []].append("demonitor \(b) true")
            case 13, 14:
                let traps = Bool.random(using: &random)
                what = "\(a) traps: \(traps)"
                stage[a].tell(.trapExits(traps))
                if model.processes[a].isAlive { model.processes[a].isTrapping = traps }
            case 15, 16:
                let end = End.allCases.filter { $0 != .trap }.randomElement(using: &random)!
                what = "\(a) sends \(end) to \(b)"
                stage[a].tell(.send(b, end))
                if model.processes[a].isAlive { model.send(a, b, end) }
            case 17...:
                guard model.processes[a].isAlive else { continue }
                let end = End.allCases.randomElement(using: &random)!
                what = "\(a) ends: \(end)"
                stage.end(a, end)
                model.end(a, end.rawValue)
            default: continue
            }
            sim.drain()
            for number in 0..<count {
                let told = stage.told(number)
                let place = "seed \(seed), step \(step): \(what); process \(number)"
                if model.died.contains(number) {
                    let reason = stage[number].proc.lastExit.map(stage.text)
                    #expect(reason == model.processes[number].reason, "\(place)")
                } else {
                    #expect(told.sorted() == model.told[number, default: []].sorted(), "\(place)")
                }
                #expect(stage[number].proc.isClosed == (!restarts && !model.processes[number].isAlive), "\(place)")
            }
            model.settle()
            expectSymmetry(stage, model)
        }
    }

    /// The tables hold what the model has, at both ends.
    private func expectSymmetry(_ stage: Stage, _ model: Model) {
        for number in 0..<stage.count {
            guard let bonds = Bonds.existing(of: stage[number].proc) else { continue }
            let (links, watched, watchers) = bonds.content.withLock {
                ($0.links.keys.map { $0 }, $0.watched.count, $0.watchers.count)
            }
            #expect(Set(links.map(stage.number(of:))) == model.processes[number].links)
            // Who watches itself keeps the monitor until it ends; the model has none.
            let own = model.processes[number].monitors.filter { $0.key != number }.values.reduce(0, +)
            #expect(watched >= own)
            let others = model.processes.indices.filter { $0 != number && model.processes[$0].isAlive }
            #expect(watchers == others.reduce(0) { $0 + model.processes[$1].monitors[number, default: 0] })
        }
    }
}
