// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import Synchronization

/// What the fault model promises beyond the containment of one trap, where it may depend on the build: on what the
/// runtime's library is linked to, and on how the optimiser and the debug information see it.
enum Behaviour: String, CaseIterable, Sendable {
    /// `TaskHooks.countsChildren`: a sibling that is suspended is waited for.
    case siblingsReturn
    /// `TaskHooks.knowsOwners`: a job in an actor of ours runs in the name of its process.
    case ownersAreKnown
    case poisonedActor, sharedActorBlame, sharedDictionaryBlame
    case batchSurvives, handleDropped, metadataElsewhere
    case containAndReport, groupContainsWhereSystemCrashes
    case reportOfReactive, reportOfAsync
    case descriptorOfReactive, descriptorOfAsync, descriptorOfChildTask

    /// What is wrong with it; nothing if all is well.
    func complaints(in system: BastionSystem, threads: Int) async -> [String] {
        var check = Check()
        let executor = system.executor
        switch self {
        case .siblingsReturn: await siblingsReturn(executor, threads, &check)
        case .ownersAreKnown: await ownersAreKnown(executor, &check)
        case .poisonedActor: await poisonedActor(executor, &check)
        case .sharedActorBlame:
            let vault = Vault()
            await sharedActor(executor, vault, &check) { await vault.commit(.index) }
        case .sharedDictionaryBlame:
            let vault = Vault()
            await sharedActor(executor, vault, &check) { await vault.remember(BadKey()) }
        case .batchSurvives: await batchSurvives(system, &check)
        case .handleDropped: await handleDropped(executor, &check)
        case .metadataElsewhere: await metadataElsewhere(executor, &check)
        case .containAndReport: await containAndReport(executor, &check)
        case .groupContainsWhereSystemCrashes: await groupContains(executor, &check)
        case .reportOfReactive: await reportOfReactive(system, &check)
        case .reportOfAsync: await reportOfAsync(system, &check)
        case .descriptorOfReactive:
            await descriptor(&check) { writer in
                let owner = system.spawn(Owner())
                owner.tell(writer)
                return owner.proc
            }
        case .descriptorOfAsync:
            await descriptor(&check) { writer in
                executor.spawn {
                    LightProc.current?.own(fileDescriptor: writer)
                    await Task.yield()
                    Misdeed.index.commit()
                }.handle.proc
            }
        case .descriptorOfChildTask:
            await descriptor(&check) { writer in
                executor.spawn {
                    LightProc.current?.own(fileDescriptor: writer)
                    await withTaskGroup(of: Void.self) { group in
                        group.addTask { Misdeed.fatal.commit() }
                    }
                }.handle.proc
            }
        }
        return check.complaints
    }

    // MARK: Tasks

    private func siblingsReturn(_ executor: any ProcExecutor, _ threads: Int, _ check: inout Check) async {
        let (begun, elsewhere, ended) = (Gate(), Gate(), Gate())
        let seen = Kept<String>()
        let family = executor.spawn {
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    begun.open()
                    await elsewhere.wait()
                    seen.add("sibling")
                }
                group.addTask {
                    await begun.wait()
                    Misdeed.index.commit()
                }
            }
            seen.add("parent")
        }
        family.handle.proc.onExit { _ in
            seen.add("end")
            ended.open()
        }
        let reason = await family.handle.exit()
        check.that(reason.trapReport?.process == family.id, "ended as \(reason)")
        // The reaper lets the thread go when it has done with the trap: from then on only the sibling is missing.
        check.that(Threads.blockingWait(forLasting: threads) != nil, "there are \(Threads.names()), not \(threads)")
        _ = await executor.spawn {}.outcome()
        check.that(seen.all.isEmpty, "the sibling was not waited for")
        elsewhere.open()
        await ended.wait()
        check.that(seen.all == ["sibling", "end"], "there was \(seen.all), not the sibling and the end")
    }

    private func ownersAreKnown(_ executor: any ProcExecutor, _ check: inout Check) async {
        let safe = Safe(on: executor)
        let handle = executor.spawn { await safe.caller() }
        guard let caller = await check.value(of: handle) else { return }
        check.that(caller == handle.id, "\(caller.map { "\($0)" } ?? "nobody") calls, not \(handle.id)")
    }

    // MARK: Actors

    private func poisonedActor(_ executor: any ProcExecutor, _ check: inout Check) async {
        let safe = Safe(on: executor)
        let (inside, release) = (Gate(), Gate())
        let holder = executor.spawn {
            await safe.hold(inside, until: release)
            return 7
        }
        await inside.wait()
        let culprit = await waiting(executor) { await safe.commit(.index) }
        var others: [RecoverableHandle<Int>] = []
        for _ in 0..<3 { others.append(await waiting(executor) { await safe.commit(nil) }) }
        release.open()
        let reason = await culprit.handle.exit()
        if case .trap(let report) = reason {
            check.that(report.process == culprit.id, "\(report.process) is blamed, it was \(culprit.id)")
        } else {
            check.that(false, "the culprit ended as \(reason)")
        }
        let held = await check.value(of: holder)
        check.that(held == 7, "who was done in the actor does not go on")
        others.append(executor.spawn { await safe.commit(nil) })
        for other in others {
            let reason = await other.handle.exit()
            if case .linked(safe.executor.id, .trap(let report)) = reason, report.process == culprit.id { continue }
            check.that(false, "who needs the poisoned actor ended as \(reason)")
        }
        check.that(safe.executor.poison?.process == culprit.id, "the actor is not poisoned")
        check.that(safe.executor.strandedTasks == 0, "\(safe.executor.strandedTasks) tasks are stranded")
    }

    /// The call of one process traps in a default actor, in a turn that another process gives it.
    private func sharedActor(
        _ executor: any ProcExecutor,
        _ vault: Vault,
        _ check: inout Check,
        _ commit: @escaping @Sendable () async -> Int
    ) async {
        let (inside, release) = (Gate(), Gate())
        let innocent = executor.spawn {
            await vault.hold(inside, until: release)
            return 7
        }
        await inside.wait()
        let culprit = await waiting(executor, commit)
        release.open()
        let reason = await culprit.handle.exit()
        check.that(reason.trapReport?.process == culprit.id, "the culprit ended as \(reason)")
        let held = await check.value(of: innocent)
        check.that(held == 7, "the innocent does not go on")
    }

    /// Starts a process whose call waits in an actor that keeps one of the two workers, and returns when it does.
    private func waiting(
        _ executor: any ProcExecutor,
        _ call: @escaping @Sendable () async -> Int
    ) async -> RecoverableHandle<Int> {
        let asking = Gate()
        let handle = executor.spawn {
            asking.open()
            return await call()
        }
        await asking.wait()
        // On the one worker that is free: when this has run, the call waits in the actor.
        _ = await executor.spawn {}.outcome()
        return handle
    }

    // MARK: Messages and handles

    /// All messages wait before the first is handled, and are taken together.
    private func batchSurvives(_ system: BastionSystem, _ check: inout Check) async {
        let list = Kept<Int>()
        let release = Gate()
        let done = Gate()
        let started = try? system.supervise(intensity: .unlimited) { Children("doer", Doer()) }
        guard let tree = started, let doer = try? tree.group("doer", of: Doer.Message.self).next else {
            return check.that(false, "it does not start")
        }
        doer.tell(.act { release.blockingWait() })
        for number in 0..<100 {
            doer.tell(
                .act {
                    if number % 30 == 15 { Misdeed.index.commit() }
                    list.add(number)
                    if number == 99 { done.open() }
                }
            )
        }
        release.open()
        await done.wait()
        let expected = (0..<100).filter { $0 % 30 != 15 }
        check.that(list.all == expected, "handled \(list.all)")
        await tree.stop()
    }

    /// Nobody refers to the process when it traps but itself.
    private func handleDropped(_ executor: any ProcExecutor, _ check: inout Check) async {
        let (begun, go, ended) = (Gate(), Gate(), Gate())
        let list = Kept<ProcID?>()
        func start() -> ProcID {
            executor.spawn {
                LightProc.current?.onExit {
                    list.add($0.trapReport?.process)
                    ended.open()
                }
                begun.open()
                await go.wait()
                Misdeed.index.commit()
            }.id
        }
        let id = start()
        await begun.wait()
        go.open()
        await ended.wait()
        check.that(list.all == [id], "ended for \(list.all), not for the trap of \(id)")
    }

    /// One process has type after type made that was not there before, while others trap: neither is in the other's way.
    private func metadataElsewhere(_ executor: any ProcExecutor, _ check: inout Check) async {
        let enough = Kept<Int>()
        let maker = executor.spawn {
            var count = 0
            // Ends: when the others have trapped, or with the watchdog.
            while enough.all.isEmpty {
                count += 1
                pack(count, Behaviour.self)
                await Task.yield()
            }
            return count
        }
        for _ in 0..<300 {
            let culprit = executor.spawn { Misdeed.index.commit() }
            let reason = await culprit.handle.exit()
            check.that(reason.trapReport?.process == culprit.id, "ended as \(reason)")
        }
        enough.add(1)
        guard let count = await check.value(of: maker) else { return }
        check.that(count > 1, "only \(count) types were made")
    }

    // MARK: Policies

    private func containAndReport(_ executor: any ProcExecutor, _ check: inout Check) async {
        let system = BastionSystem(name: "reporting", executor: executor, containment: .containAndReport)
        let told = Gate()
        let list = Kept<ProcID>()
        let observation = Containment.observe(on: executor) { event in
            guard case .trapped(let report) = event else { return }
            list.add(report.process)
            told.open()
        }
        let doer = system.spawn(Doer())
        doer.tell(.act { Misdeed.index.commit() })
        let reason = await ProcHandle(doer.proc).exit()
        check.that(reason.trapReport?.process == doer.id, "ended as \(reason)")
        await told.wait()
        observation.cancel()
        check.that(list.all == [doer.id], "\(list.all) were reported, not \(doer.id)")
    }

    private func groupContains(_ executor: any ProcExecutor, _ check: inout Check) async {
        let system = BastionSystem(name: "crashing", executor: executor, containment: .crash)
        let (done, list) = (Gate(), Kept<Int>())
        let started = try? system.supervise(intensity: .unlimited) { Children("doer", Doer(), containment: .contain) }
        guard let tree = started, let doer = try? tree.group("doer", of: Doer.Message.self).next else {
            return check.that(false, "it does not start")
        }
        doer.tell(.act { Misdeed.index.commit() })
        doer.tell(
            .act {
                list.add(1)
                done.open()
            }
        )
        await done.wait()
        check.that(doer.proc.restarts == 1, "restarted \(doer.proc.restarts) times")
        await tree.stop()
    }

    // MARK: Reports

    private func reportOfReactive(_ system: BastionSystem, _ check: inout Check) async {
        let list = Kept<TrapReport?>()
        let started = try? system.supervise("shop") { Children("till", Doer(), restart: .temporary) }
        guard let tree = started, let till = try? tree.group("till", of: Doer.Message.self).next else {
            return check.that(false, "it does not start")
        }
        let ended = Gate()
        till.tell(
            .hook {
                list.add($0.trapReport)
                ended.open()
            }
        )
        till.tell(.act { Misdeed.index.commit() })
        await ended.wait()
        look(at: list, name: "till-0", messageType: "Message", process: till.id, &check)
        await tree.stop()
    }

    private func reportOfAsync(_ system: BastionSystem, _ check: inout Check) async {
        let list = Kept<TrapReport?>()
        let ended = Gate()
        let started = try? system.supervise("shop") {
            Children("clerk", restart: .temporary) { context in
                context.onExit {
                    list.add($0.trapReport)
                    ended.open()
                }
                _ = try await context.receive(String.self)
                _ = try await context.receive(Errand.self)
                Misdeed.index.commit()
            }
        }
        guard let tree = started,
            let first = try? tree.group("clerk", of: String.self).next,
            let second = try? tree.group("clerk", of: Errand.self).next
        else {
            return check.that(false, "it does not start")
        }
        first.tell("a string")
        second.tell(Errand())
        await ended.wait()
        look(at: list, name: "clerk-0", messageType: "Errand", process: first.id, &check)
        await tree.stop()
    }

    private func look(
        at list: Kept<TrapReport?>,
        name: String,
        messageType: String,
        process: ProcID,
        _ check: inout Check
    ) {
        guard list.all.count == 1, let report = list.all[0] else {
            return check.that(false, "\(list.all.count) ends were told, or none by a trap")
        }
        check.that(report.process == process, "\(report.process) is blamed, it was \(process)")
        check.that(report.name == name, "it is called \(report.name ?? "nothing")")
        check.that(report.messageType == messageType, "its message is of type \(report.messageType ?? "none")")
        check.that(report.path == "/shop/" + name, "its path is \(report.path ?? "none")")
        let text = report.text()
        let expected = "/shop/\(name)\(process) trapped: index out of range"
        check.that(text.hasPrefix(expected), "its text begins: \(text.prefix(80))")
        // In all builds: a function has a symbol without debug information, too.
        let functions = report.frames().compactMap(\.function)
        check.that(functions.contains { $0.contains("Misdeed.commit") }, "its frames are \(functions)")
        let json = report.json()
        check.that(json.contains("\"messageType\":\"\(messageType)\""), "its JSON is \(json)")
        check.that(json.contains("\"name\":\"\(name)\""), "its JSON is \(json)")
    }

    // MARK: Property

    /// Starts a process that owns the writing end of a pipe and traps: who reads then comes to the end.
    private func descriptor(_ check: inout Check, _ start: (Int32) -> LightProc) async {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return check.that(false, "no pipe: \(errno)") }
        let proc = start(ends[1])
        var byte: UInt8 = 0
        var count = read(ends[0], &byte, 1)
        // Tried again after a signal: this is read(2), not close(2).
        while count < 0, errno == EINTR { count = read(ends[0], &byte, 1) }
        check.that(count == 0, "read returned \(count)")
        close(ends[0])
        let reason = await ProcHandle(proc).exit()
        check.that(reason.trapReport?.process == proc.id, "ended as \(reason)")
    }
}

// MARK: - What they use

/// Collects what is wrong.
private struct Check {
    var complaints: [String] = []

    mutating func that(_ isSo: Bool, _ complaint: @autoclosure () -> String) {
        if !isSo { complaints.append(complaint()) }
    }

    mutating func value<Output: Sendable>(of handle: RecoverableHandle<Output>) async -> Output? {
        switch await handle.outcome() {
        case .finished(let value): return value
        case .failed(let reason):
            complaints.append("a process ended as \(reason)")
            return nil
        }
    }
}

/// What several threads have noted, in order.
final class Kept<Value: Sendable>: Sendable {
    private let values = Mutex<[Value]>([])
    var all: [Value] { values.withLock { $0 } }
    func add(_ value: Value) { values.withLock { $0.append(value) } }
}

private final class Crate<Content>: Sendable {
    @inline(never) init() {}
}

/// Makes the metadata of a type of its own for each number: a digit is a box or a crate around the others.
@inline(never)
private func pack<Content>(_ number: Int, _: Content.Type) {
    _ = opaque(Crate<Content>())
    if number == 0 { return }
    if number & 1 == 1 { pack(number >> 1, Box<Content>.self) } else { pack(number >> 1, Crate<Content>.self) }
    _ = opaque(number)
}

/// Opened once; tasks wait for it, and threads.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [UnsafeContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    func wait() async {
        await withUnsafeContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    func blockingWait() {
        while !state.withLock({ $0.isOpen }) { sched_yield() }
    }
}

/// An actor whose state is the Swift runtime's.
private actor Vault {
    private var table: [BadKey: Int] = [:]

    func hold(_ inside: Gate, until release: Gate) {
        inside.open()
        release.blockingWait()
    }

    func commit(_ misdeed: Misdeed) -> Int { misdeed.commit() }

    func remember(_ key: BadKey) -> Int {
        table[key] = 1
        return table.count
    }
}

/// An actor on an executor of ours.
private actor Safe {
    let executor: ProcSerialExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(on scheduler: any ProcScheduler) { executor = ProcSerialExecutor(on: scheduler, name: "safe") }

    func hold(_ inside: Gate, until release: Gate) {
        inside.open()
        release.blockingWait()
    }

    private var calls = 0
    func commit(_ misdeed: Misdeed?) -> Int {
        // Without a touch of the state the optimiser leaves the way into the actor out.
        calls += 1
        return misdeed?.commit() ?? calls
    }

    func caller() -> ProcID? { LightProc.current?.id }
}

/// A key that cannot be put into a dictionary.
private struct BadKey: Hashable {
    func hash(into hasher: inout Hasher) { hasher.combine(Misdeed.unwrapping.commit()) }
}

/// A message that does nothing.
private struct Errand: Sendable {}

/// Takes a descriptor over, and traps.
private struct Owner: Reactive {
    mutating func receive(_ message: consuming Int32, in context: borrowing ReactiveContext<Self>) {
        context.own(fileDescriptor: message)
        Misdeed.index.commit()
    }
}
