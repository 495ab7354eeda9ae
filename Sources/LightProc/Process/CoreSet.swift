// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Processors to which processes are pinned: those of a NUMA node, or some by their numbers.
///
/// A wish that an executor looks at when a process is pinned: whether there are such processors, and workers on them.
public struct CoreSet: Sendable, Hashable, CustomStringConvertible {
    package enum Kind: Sendable, Hashable {
        case node(Int)
        /// Ascending, each once.
        case cores([Int])
    }
    package let kind: Kind

    /// All workers of a NUMA node, by the kernel's number of it, as in `numactl --hardware`.
    public static func node(_ number: Int) -> CoreSet { CoreSet(kind: .node(number)) }

    /// The workers on processors with these numbers, as the kernel counts processors: those of `taskset` and `/proc/cpuinfo`.
    ///
    /// A processor is what runs one thread: of a core with two hardware threads there are two. Order and repetition do not matter.
    public static func cores(_ numbers: some Sequence<Int>) -> CoreSet {
        CoreSet(kind: .cores(Set(numbers).sorted()))
    }

    /// As in `node 0` or `processors 0, 2, 3`.
    public var description: String {
        switch kind {
        case .node(let number): "node \(number)"
        case .cores(let numbers): "processors " + numbers.map { "\($0)" }.joined(separator: ", ")
        }
    }
}

/// Why processes cannot be pinned as was asked for.
public struct PinningError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong; compare with the static members, more of which may be added.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        /// The name of the static member.
        public let description: String

        /// The set has no processor in it.
        public static let emptySet = Code(description: "emptySet")
        /// The executor has no worker on one of the processors: it does not exist, may not be used, or was given none.
        public static let noSuchProcessor = Code(description: "noSuchProcessor")
        /// The executor has no worker on the NUMA node: it does not exist, may not be used, or was given none.
        public static let noSuchNode = Code(description: "noSuchNode")
        /// Processes of this executor are pinned to so many different sets that there is no room for another one.
        public static let tooManySets = Code(description: "tooManySets")
        /// The scheduler of the process has no processors to choose from.
        public static let unsupported = Code(description: "unsupported")
    }

    /// What is wrong, for programs.
    public let code: Code
    /// What is wrong, and which processors there are, in one line for people.
    public let description: String

    package init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}

extension LightProc {
    /// Pins the process: from now on all of it runs on workers of these processors only, in every incarnation.
    ///
    /// By who made it, before it is started or told anything. What that means, and what it costs, is in SEMANTICS.md. Its blocking work runs
    /// on blocking threads, of the node that the caller is on. A second call replaces the first.
    /// - Throws: ``PinningError`` when there are no such workers; then nothing has changed.
    public final func pin(to cores: CoreSet) throws(PinningError) {
        let number = try scheduler.pinNumber(of: cores)
        precondition(
            state.phase == .created || tag.isPinned || tag.worker == nil && isReactive && mailbox.isEmpty,
            "a process is pinned before it is started"
        )
        withSide { $0.cores = cores }
        guard let number else { return }
        tagWord.update { word in
            var tag = ProcTag(rawValue: word)
            tag.pin = number
            word = tag.rawValue
        }
    }

    /// What the process is pinned to; nil: to nothing. Any thread.
    public final var cores: CoreSet? { existingSide?.content.withLock { $0.cores } }
}
