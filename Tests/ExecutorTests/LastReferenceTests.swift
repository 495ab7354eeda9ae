// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor
@testable import LightProc

/// Who lets go of the last reference to a process does not answer for what it leaves behind, as that dies.
@Suite(.timeLimit(.minutes(5))) struct LastReferenceTests {
    fileprivate final class Bomb: Sendable {
        let wentOff: BlockingGate
        init(_ wentOff: BlockingGate) { self.wentOff = wentOff }
        deinit {
            wentOff.open()
            _ = opaque([1])[opaque(5)]
        }
    }

    private struct Failure: Error { let bomb: Bomb }

    private struct Carrier: ReactiveBody {
        let bomb: Bomb?
        mutating func receive(_ message: consuming Bomb, on proc: LightProc) {}
    }

    /// Where a process keeps what traps as it dies.
    enum Place: CaseIterable, Codable, Sendable {
        case body, message, controlMessage, asyncMessage, hook, callback, state, main, factory, error, linkedError

        fileprivate func fill(_ bomb: Bomb, on pool: WorkerPool) -> LightProc {
            switch self {
            case .body: return .reactive(Carrier(bomb: bomb), on: pool)
            case .message, .controlMessage:
                let proc = LightProc.reactive(on: pool) { Carrier(bomb: nil) }
                _ = proc.push(MessageNode.make(bomb), lane: self == .message ? .user : .control)
                return proc
            case .asyncMessage:
                let proc = LightProc.async(on: pool) { _ in }
                proc.declareMessages(of: Bomb.self)
                proc.send(bomb)
                return proc
            case .hook:
                let proc = LightProc.async(on: pool) { _ in }
                proc.onExit { _ in _ = bomb.wentOff }
                return proc
            case .callback, .state:
                var stack = self == .state ? ProcStack(state: bomb) : ProcStack()
                if self == .callback { stack.afterComplete = { _ = bomb.wentOff } }
                let proc = LightProc.async(on: pool) { _ in }
                proc.prepare(name: nil, stack: stack, observer: nil, shutdownTime: .seconds(1))
                return proc
            case .main: return LightProc.async(on: pool) { _ in _ = bomb.wentOff }
            case .factory: return LightProc.reactive(on: pool) { Carrier(bomb: bomb) }
            case .error, .linkedError:
                let proc = LightProc.async(on: pool) { _ = await $0.receiveNode() }
                let reason = ExitReason.error(Failure(bomb: bomb))
                let exit = self == .error ? reason : .linked(proc.id, reason)
                proc.side.content.withLock { $0.lastExit = exit }
                return proc
            }
        }
    }

    /// On a thread that is no worker a trap would end the program.
    @Test(arguments: Place.allCases)
    func whatAProcessLeavesEndsNobody(place: Place) async {
        await #expect(processExitsWith: .success) { [place] in
            let pool = try WorkerPool(workers: 2)
            let wentOff = BlockingGate()
            withExtendedLifetime(place.fill(Bomb(wentOff), on: pool)) {}
            wentOff.blockingWait()
            #expect(try await pool.spawn { 7 }.outcome().get() == 7)
            await shutDown(pool)
            #expect(Containment.contained == 1)
        }
    }

    @Test(arguments: Place.allCases)
    func norTheProcessThatLetsGo(place: Place) async {
        await #expect(processExitsWith: .success) { [place] in
            let pool = try WorkerPool(workers: 2)
            let wentOff = BlockingGate()
            let holder = pool.spawn {
                withExtendedLifetime(place.fill(Bomb(wentOff), on: pool)) {}
                return 7
            }
            #expect(try await holder.outcome().get() == 7)
            wentOff.blockingWait()
            await shutDown(pool)
            #expect(Containment.contained == 1)
        }
    }

    /// The end of a second incarnation puts its reason in the place of the first one's.
    @Test func norWhoDecidesTheNextEnd() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let wentOff = BlockingGate()
            let proc = Place.error.fill(Bomb(wentOff), on: pool)
            proc.restart()
            let killed = pool.spawn {
                proc.kill()
                return 7
            }
            #expect(try await killed.outcome().get() == 7)
            wentOff.blockingWait()
            while !proc.isClosed { await Task.yield() }
            await shutDown(pool)
            #expect(Containment.contained == 1)
        }
    }

    /// What the closure of a process owns dies with its end, once, in its own name.
    @Test func theClosureOfAProcessThatEndedTrapsOnce() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let wentOff = BlockingGate()
            let proc = Place.main.fill(Bomb(wentOff), on: pool)
            proc.restart()
            wentOff.blockingWait()
            while !proc.isClosed { await Task.yield() }
            #expect(try await pool.spawn { 7 }.outcome().get() == 7)
            await shutDown(pool)
            #expect(Containment.contained == 1)
        }
    }

    @Test func aSupervisorThatClosesAProcessDoesNotAnswerForItsClosure() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let wentOff = BlockingGate()
            let proc = Place.main.fill(Bomb(wentOff), on: pool)
            let supervisor = pool.spawn {
                proc.close()
                return 7
            }
            #expect(try await supervisor.outcome().get() == 7)
            wentOff.blockingWait()
            await shutDown(pool)
            #expect(Containment.contained == 1)
        }
    }
}
