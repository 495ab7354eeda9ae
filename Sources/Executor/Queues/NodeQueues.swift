// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The queues that the workers of one NUMA node share: for what comes from other threads, and for what is more or less
/// urgent than the rest.
final class NodeQueues: Sendable {
    /// Taken before everything else on the node.
    let high: InjectionQueue
    let normal: InjectionQueue
    /// Taken when nothing else is there, and now and then.
    let low: InjectionQueue

    /// - Parameter memory: Where they lie.
    init(_ memory: NodeMemory) {
        high = InjectionQueue(memory)
        normal = InjectionQueue(memory)
        low = InjectionQueue(memory)
    }

    /// Whether nothing is in them; may be out of date when it returns.
    var isEmpty: Bool { high.isEmpty && normal.isEmpty && low.isEmpty }

    var count: Int { high.count + normal.count + low.count }

    /// The most urgent item, for a worker of another node.
    func pop() -> RunItem? { high.pop() ?? normal.pop() ?? low.pop() }
}
