// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Who lets go of the last reference to a process does not answer for what it leaves behind, as that dies.
@Suite(.timeLimit(.minutes(15))) struct LastReferenceTests {
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

    /// Owns something that says when it dies.
    private struct Owner: ReactiveBody {
        final class Death: Sendable {
            /// A worker that waits there can be looked at, also under ThreadSanitizer.
            let gate = PollGate()
            let hasCome = Atomic<Bool>(false)
        }
        final class Property: Sendable {
            let death: Death
            init(_ death: Death) { self.death = death }
            deinit {
                // ordering: sequentiallyConsistent: tests are not in a hurry.
                death.hasCome.store(true, ordering: .sequentiallyConsistent)
                death.gate.open()
            }
        }
        let property: Property
        mutating func receive(_ message: consuming Int, on proc: LightProc) {}
    }

    /// Has a process run once, to which nobody refers then, and `after` called in the worker's next turn, by which that is kept.
    private func afterTheTurnOfOneWithoutReferences(
        on pool: WorkerPool,
        _ death: Owner.Death,
        _ after: @escaping @Sendable (LightProc) -> Void
    ) -> LightProc {
        let other = LightProc.reactive(Doer(), on: pool)
        other.tell { other in
            LightProc.reactive(Owner(property: .init(death)), on: pool).send(1)
            other.tell { other in
                #expect(crt_nodes()?.pointee.kept != 0)
                after(other)
            }
            LightProc.endTurn()
        }
        return other
    }

    /// The worker holds the process that ran last until its next turn is over, also if it never idles.
    @Test func theNextTurnIsTheLastInWhichAWorkerHoldsAProcess() async throws {
        let pool = try WorkerPool.ofOneWorkerWithoutTime()
        let (death, gaveUp) = (Owner.Death(), BlockingGate())
        let turns = Atomic<Int>(0)
        @Sendable func goOn(_ proc: LightProc) {
            let hasCome = death.hasCome.load(ordering: .sequentiallyConsistent)
            if hasCome || turns.add(1, ordering: .relaxed).newValue == 10_000 { return gaveUp.open() }
            proc.tell(goOn)
            LightProc.endTurn()
        }
        let busy = afterTheTurnOfOneWithoutReferences(on: pool, death, goOn)
        gaveUp.blockingWait()
        #expect(turns.load(ordering: .relaxed) < 10_000)
        await pool.shutDownElsewhere()
        withExtendedLifetime(busy) {}
    }

    /// Unless that turn takes long: then who looks at the worker lets go of the process.
    @Test func aStuckWorkerHoldsNobody() async throws {
        let pool = try WorkerPool(
            placement: Placement(Topology(synthetic: "core:1 pu:1"), options: .init(pinning: .never)),
            stallThreshold: .milliseconds(20)
        )
        let (death, done) = (Owner.Death(), BlockingGate())
        let stuck = afterTheTurnOfOneWithoutReferences(on: pool, death) { _ in
            death.gate.blockingWait()
            #expect(crt_nodes()?.pointee.kept == 0)
            done.open()
        }
        done.blockingWait()
        await pool.shutDownElsewhere()
        withExtendedLifetime(stuck) {}
    }

    /// Who is sent to in that turn is queued with the hold that is there.
    @Test func theHoldGoesAlongWithTheNextMessage() async throws {
        let pool = try WorkerPool.ofOneWorkerWithoutTime()
        let done = BlockingGate()
        let (one, other) = (LightProc.reactive(Doer(), on: pool), LightProc.reactive(Doer(), on: pool))
        one.tell { one in
            other.tell { other in
                #expect(crt_nodes()?.pointee.kept == UInt(bitPattern: Unmanaged.passUnretained(one).toOpaque()))
                one.tell { _ in
                    #expect(crt_nodes()?.pointee.kept == UInt(bitPattern: Unmanaged.passUnretained(other).toOpaque()))
                    done.open()
                }
                #expect(crt_nodes()?.pointee.kept == 0)
                #expect(crt_nodes()?.pointee.next == UInt(bitPattern: Unmanaged.passUnretained(one).toOpaque()))
            }
        }
        done.blockingWait()
        await pool.shutDownElsewhere()
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
            await pool.shutDownElsewhere()
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
            await pool.shutDownElsewhere()
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
            await pool.shutDownElsewhere()
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
            await pool.shutDownElsewhere()
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
            await pool.shutDownElsewhere()
            #expect(Containment.contained == 1)
        }
    }
}
