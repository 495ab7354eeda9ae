// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Processes each of which waits for the answer of the next, and the last for the first's.
public struct AskCycle: Sendable, CustomStringConvertible {
    /// The processes, beginning with the one that found it.
    public let processes: [ProcID]
    /// Their names and ids, in the same order.
    public let names: [String]

    init(_ procs: [LightProc]) {
        processes = procs.map(\.id)
        names = procs.map(\.description)
    }

    /// The names in order, the first again at the end, as in `a<0.3> asks b<0.4> asks a<0.3>`.
    public var description: String { (names + names.prefix(1)).joined(separator: " asks ") }
}

/// What is done about processes that wait for each other's answers in a circle.
///
/// Looked for when an async process begins to await an answer in its first task, or in a ``Context/withTimeout(_:_:)`` there, and
/// looked at again after 50 ms: only if all of it still waits it counts. A process that has received in child tasks may do so
/// again, and is not taken to be stuck. Answers that are awaited in other child tasks are not followed, nor `whenComplete`,
/// which does not wait.
/// A raw ``Reply`` that was handed on to a third process is taken to be where the message was: hand it on with its ask instead.
public enum AskCyclePolicy: Sendable, Hashable, CaseIterable {
    /// The ask that closed the circle fails with `cycle`; the others get their answers.
    case fail
    /// Nothing ends before its time; the errors of all asks of the circle then name it, and the log tells.
    case report
    /// Nobody looks.
    case ignore
}

/// An ask that the first task of an async process awaits.
final class AskWait: Sendable {
    private let asker: LightProc
    private let part: AskWaits
    private let ask: Ask

    /// How long a circle must stand before it counts.
    static let grace = Duration.milliseconds(50)

    /// The asks that a process's first task awaits at this moment: one, or none.
    private final class AskWaits: CompanionPart {
        let current = Locked<Ask?>(nil)
    }

    /// Nil where it cannot close a circle: not in the first task of an async process, or answered already.
    init?(_ ask: Ask) {
        guard let asker = LightProc.current, !asker.isReactive, asker.isFirstTaskCalling
        else { return nil }
        let policy = asker.system?.askCycles ?? .fail
        guard policy != .ignore, !ask.isSettled else { return nil }
        self.asker = asker
        self.ask = ask
        part = Companion.of(asker).part(AskWaits.self, of: asker) { AskWaits() }
        // First in place, then looked: of two that close a circle at once, one sees the other.
        part.current.withLock { $0 = ask }
        guard Self.cycle(from: ask, of: asker) != nil else { return }
        let executor = asker.scheduler
        executor.wake(after: Self.grace) { [self] in
            guard part.current.withLock({ $0 === ask }), !ask.isSettled, let procs = Self.cycle(from: ask, of: asker)
            else { return }
            found(AskCycle(procs), among: procs, policy)
        }
    }

    func end() {
        part.current.withLock { current in
            if current === ask { current = nil }
        }
    }

    private func found(_ cycle: AskCycle, among procs: [LightProc], _ policy: AskCyclePolicy) {
        asker.system?.tell(.warning) { ("processes wait for each other", ["cycle": "\(cycle)"]) }
        for proc in procs { Self.wait(of: proc)?.isPartOf(cycle) }
        if policy == .fail { ask.fail(.cycle) }
    }

    /// Follows who waits for whom; nil if that ends somewhere else than with the asking process.
    private static func cycle(from ask: Ask, of asker: LightProc) -> [LightProc]? {
        var path = [asker]
        var next = ask.holder
        // Ends: each round adds a process that is not in the path yet.
        while next !== asker {
            guard !path.contains(where: { $0 === next }), !next.receivesInChildTasks, let ask = wait(of: next) else {
                return nil
            }
            path.append(next)
            next = ask.holder
        }
        return asker.receivesInChildTasks ? nil : path
    }

    private static func wait(of proc: LightProc) -> Ask? {
        guard let ask = Companion.existing(of: proc)?.part(AskWaits.self)?.current.withLock({ $0 }), !ask.isSettled
        else { return nil }
        return ask
    }
}
