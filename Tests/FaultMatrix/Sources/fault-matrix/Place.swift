// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Dispatch
import Glibc
import Runtime
import Synchronization

/// What became of the process that misbehaved.
struct Outcome: Sendable {
    /// The report that its handle or observer was given; nil if it did not trap.
    var report: TrapReport?
    var process: ProcID
    /// What else was wrong.
    var complaint: String?
}

/// Where in a process a trap happens.
enum Place: String, CaseIterable, Sendable {
    case handler, asyncBody, childTask, asyncLet, actorMethod, afterSuspension
    case deinitializer, messageDeinit, stateDeinit
    case mutex, hashInto, equals, sortCallback, besideMetadata
    case dispatchSync
    case blocking, exitHook, atTheSameTime

    /// Traps that one play of it makes.
    var traps: Int { self == .atTheSameTime ? 2 : 1 }

    /// Runs processes that misbehave here.
    func play(_ misdeed: Misdeed, in system: BastionSystem) async -> [Outcome] {
        let executor = system.executor
        switch self {
        case .handler: return await reactive(system) { misdeed.commit() }
        case .asyncBody: return await ended(executor.spawn { misdeed.commit() })
        case .childTask:
            return await ended(
                executor.spawn {
                    await withTaskGroup(of: Int.self) { group in
                        group.addTask { 1 }
                        group.addTask { misdeed.commit() }
                        return await group.reduce(0, +)
                    }
                }
            )
        case .asyncLet:
            return await ended(
                executor.spawn {
                    async let child = misdeed.commit()
                    return await child
                }
            )
        case .actorMethod:
            return await ended(
                executor.spawn {
                    let clerk = Clerk()
                    return await clerk.commit(misdeed)
                }
            )
        case .afterSuspension:
            return await ended(
                executor.spawn {
                    await withUnsafeContinuation { continuation in
                        _ = executor.schedule(after: .microseconds(1)) { continuation.resume() }
                    }
                    await Task.yield()
                    return misdeed.commit()
                }
            )
        case .deinitializer:
            return await ended(
                executor.spawn {
                    _ = opaque(Bomb(misdeed))
                    return 0
                }
            )
        case .messageDeinit:
            let doer = system.spawn(Doer())
            doer.tell(deadly(misdeed))
            return [await outcome(of: doer.proc)]
        case .stateDeinit: return await stateDeinit(misdeed, in: system)
        case .mutex:
            let shared = SharedMutex()
            return await reactive(system) { shared.mutex.withLock { $0 += misdeed.commit() } }
        case .hashInto:
            return await reactive(system) {
                var table: [Key: Int] = [:]
                table[Key(misdeed: misdeed, isHashLive: true)] = 1
                _ = opaque(table)
            }
        case .equals:
            return await reactive(system) {
                var table = [Key(misdeed: misdeed, isHashLive: false): 1]
                table[Key(misdeed: misdeed, isHashLive: false)] = 2
                _ = opaque(table)
            }
        case .sortCallback:
            return await reactive(system) {
                var misdeeds = [misdeed, misdeed]
                qsort(&misdeeds, 2, MemoryLayout<Misdeed>.stride) { first, _ in
                    Int32(truncatingIfNeeded: first!.load(as: Misdeed.self).commit())
                }
            }
        case .besideMetadata:
            // ordering: relaxed: a number that nobody had before.
            let depth = Self.depth.wrappingAdd(1, ordering: .relaxed).newValue
            return await reactive(system) { nest(depth, Box<Place>.self) { misdeed.commit() } }
        case .dispatchSync:
            // Dispatch ends the program if a thread ends in the middle of this.
            return await reactive(system) { DispatchQueue(label: "fault-matrix").sync { _ = misdeed.commit() } }
        case .blocking: return await ended(executor.spawnBlocking { misdeed.commit() })
        case .exitHook: return await exitHook(misdeed, in: system)
        case .atTheSameTime: return await atTheSameTime(misdeed, in: system)
        }
    }

    private static let depth = Atomic(0)

    private func reactive(
        _ system: BastionSystem,
        _ act: @escaping @Sendable () -> Void
    ) async -> [Outcome] {
        let doer = system.spawn(Doer())
        doer.tell(.act(act))
        return [await outcome(of: doer.proc)]
    }

    /// A message that nobody but its receiver holds.
    @inline(never)
    private func deadly(_ misdeed: Misdeed) -> Doer.Message {
        let bomb = Bomb(misdeed)
        return .act { _ = opaque(bomb) }
    }

    private func outcome(of proc: LightProc) async -> Outcome {
        let reason = await ProcHandle(proc).exit()
        return Outcome(report: reason.trapReport, process: proc.id)
    }

    private func ended(_ handle: RecoverableHandle<Int>) async -> [Outcome] {
        switch await handle.outcome() {
        case .finished: [Outcome(report: nil, process: handle.id)]
        case .failed(let reason): [Outcome(report: reason.trapReport, process: handle.id)]
        }
    }

    /// The body dies when the process has ended: that ends nothing else.
    private func stateDeinit(_ misdeed: Misdeed, in system: BastionSystem) async -> [Outcome] {
        let before = Containment.contained
        let carrier = system.spawn(Carrier(bomb: Bomb(misdeed)))
        let id = carrier.id
        carrier.tell(())
        let reason = await ProcHandle(carrier.proc).exit()
        guard case .normal = reason else {
            return [Outcome(report: nil, process: id, complaint: "ended as \(reason), not normally")]
        }
        // Ends: the body's deinit traps, and whoever hangs is found by the watchdog.
        while Containment.contained == before { await Task.yield() }
        return [Outcome(report: nil, process: id)]
    }

    /// The hook's trap ends the hook: the process ends as it would have, and its other hooks run.
    private func exitHook(_ misdeed: Misdeed, in system: BastionSystem) async -> [Outcome] {
        let doer = system.spawn(Doer())
        let reason: ExitReason = await withUnsafeContinuation { continuation in
            doer.tell(.hook { continuation.resume(returning: $0) })
            doer.tell(.hook { _ in misdeed.commit() })
            doer.tell(.stop)
        }
        guard case .normal = reason else {
            return [Outcome(report: nil, process: doer.id, complaint: "ended as \(reason), not normally")]
        }
        return [Outcome(report: nil, process: doer.id)]
    }

    private func atTheSameTime(_ misdeed: Misdeed, in system: BastionSystem) async -> [Outcome] {
        let missing = Missing(2)
        let doers = (0..<2).map { _ in system.spawn(Doer()) }
        for doer in doers {
            doer.tell(
                .act {
                    missing.arrive()
                    misdeed.commit()
                }
            )
        }
        var outcomes: [Outcome] = []
        for doer in doers { outcomes.append(await outcome(of: doer.proc)) }
        return outcomes
    }
}

/// A reactive process that does what its messages say.
struct Doer: Reactive {
    enum Message: Sendable {
        case act(@Sendable () -> Void)
        case hook(@Sendable (ExitReason) -> Void)
        case stop
    }

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .act(let act): act()
        case .hook(let hook): context.onExit(hook)
        case .stop: context.stop()
        }
    }
}

/// Traps when it is destroyed.
final class Bomb: Sendable {
    private let misdeed: Misdeed
    init(_ misdeed: Misdeed) { self.misdeed = misdeed }
    deinit { misdeed.commit() }
}

private struct Carrier: Reactive {
    let bomb: Bomb
    mutating func receive(_ message: consuming Void, in context: borrowing ReactiveContext<Self>) { context.stop() }
}

private actor Clerk {
    func commit(_ misdeed: Misdeed) -> Int { misdeed.commit() }
}

private final class SharedMutex: Sendable {
    let mutex = Mutex(0)
}

private struct Key: Hashable {
    let misdeed: Misdeed
    let isHashLive: Bool

    static func == (first: Key, second: Key) -> Bool { first.misdeed.commit() == 1 }
    func hash(into hasher: inout Hasher) {
        if isHashLive { hasher.combine(misdeed.commit()) }
    }
}

/// Threads that start together.
final class Missing: Sendable {
    private let count: Atomic<Int>
    init(_ count: Int) { self.count = Atomic(count) }
    func arrive() {
        // ordering: sequentiallyConsistent: tests are not in a hurry.
        count.subtract(1, ordering: .sequentiallyConsistent)
        while count.load(ordering: .sequentiallyConsistent) > 0 { sched_yield() }
    }
}

final class Box<Content>: Sendable {
    @inline(never) init() {}
}

/// Makes the metadata of types that were not there before, and calls `body` when they are.
@inline(never)
func nest<Content>(_ depth: Int, _: Box<Content>.Type, _ body: () -> Void) {
    _ = opaque(Box<Content>())
    if depth == 0 {
        body()
    } else {
        nest(depth - 1, Box<Box<Content>>.self, body)
    }
    _ = opaque(depth)
}
