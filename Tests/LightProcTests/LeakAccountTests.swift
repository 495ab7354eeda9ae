// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

/// The budget for what traps leak: told once when near, once when reached, whatever the steps are.
@Suite struct LeakAccountTests {
    private struct Plain: ReactiveBody {
        let number = 7
        mutating func receive(_ message: consuming Int, on proc: LightProc) {}
    }

    /// In a program of its own: there is one account.
    @Test func ofAReactiveProcessThatTrapsTheBodyIsCountedUnlessItOwnsNothing() async {
        await #expect(processExitsWith: .success) {
            let scheduler = HandScheduler()
            for (proc, bytes) in [
                (LightProc.reactive(Script(), on: scheduler), MemoryLayout<Script>.size),
                (LightProc.reactive(Plain(), on: scheduler), 0),
            ] {
                let before = Containment.leaked.bytes
                proc.trapped(trapReport(of: proc), in: nil, isOwnJob: false)
                #expect(Containment.leaked.bytes == before + bytes)
            }
        }
    }

    @Test func tellsOnceWhenNearAndOnceWhenReached() {
        var account = LeakAccount(budget: 100)
        #expect(account.add(79) == .nothing)
        #expect(account.add(1) == .near)
        #expect(account.add(19) == .nothing)
        #expect(account.add(1) == .reached)
        #expect(account.add(1000) == .nothing)
        #expect(account.bytes == 1100)
    }

    @Test func aLeapOverBothMarksTellsTheSecondOnly() {
        var account = LeakAccount(budget: 100)
        #expect(account.add(500) == .reached)
        #expect(account.add(1) == .nothing)
    }

    @Test func anotherBudgetStartsTheTellingAnew() {
        var account = LeakAccount(budget: 100)
        #expect(account.add(100) == .reached)
        #expect(account.setBudget(1000) == .nothing)
        #expect(account.add(700) == .near)
        #expect(account.setBudget(900) == .near)
        #expect(account.setBudget(800) == .reached)
    }

    @Test func theSumSaturates() {
        var account = LeakAccount(budget: .max)
        _ = account.add(.max)
        #expect(account.add(.max) == .nothing)
        #expect(account.bytes == .max)
    }

    @Test(arguments: 0..<50)
    func randomStepsTellEachMarkOnce(seed: Int) {
        // Multiplicative congruence (Park and Miller): enough for sizes of steps; the seed is the test's argument.
        var state = UInt64(seed + 1)
        func next(_ bound: Int) -> Int {
            state = state * 48271 % 2_147_483_647
            return Int(state % UInt64(bound))
        }
        let budget = 1 + next(10_000)
        var account = LeakAccount(budget: budget)
        var told: [LeakAccount.Step] = []
        var steps: [Int] = []
        while account.bytes < budget {
            steps.append(next(max(2, budget / 3)))
            let before = account.bytes
            let answer = account.add(steps[steps.count - 1])
            if answer != .nothing { told.append(answer) }
            #expect(account.bytes == before + steps[steps.count - 1])
        }
        #expect(told == [.reached] || told == [.near, .reached], "budget \(budget), steps \(steps)")
    }
}
