// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A worker's place: the PU it runs on, the memory it prefers, and whom it steals from, nearest first.
///
/// Numbers are hwloc's logical ones unless the name says `os`. An object that the machine does not describe is `nil`.
public struct Seat: Sendable, Equatable {
    /// The worker's index: the position in `Placement.seats`.
    public let index: Int
    /// The PU's logical number.
    public let pu: Int
    /// The kernel's number of the PU, which pinning takes.
    public let osPU: Int
    /// The physical core, or `nil` on a machine that does not describe cores.
    public let core: Int?
    /// The level 3 cache, or `nil` where there is none.
    public let l3: Int?
    /// The nearest NUMA node, or `nil` where no node is attached to the PU.
    public let node: Int?
    /// The core kind, an index into `Topology.kinds`; 0 where unknown.
    public let kind: Int
    /// The kernel's number of the node to take memory from: the nearest that has any; `nil` for no preference.
    public let memoryNode: Int?
    /// Every other worker exactly once, in groups of the same proximity, nearest group first.
    public let tiers: [StealTier]

    /// The workers of `tiers`: each other worker exactly once, nearest group first.
    public var steal: [[Int]] { tiers.map(\.workers) }
}

/// A group of workers that are equally near to one worker.
public struct StealTier: Sendable, Equatable {
    /// What the group shares with the worker, or how far away it is.
    public let proximity: Proximity
    /// Worker indices, ascending; a thief should begin at a random or rotating one so that thieves do not convoy.
    public let workers: [Int]
}

/// How near two workers are: the innermost thing they share; nearer ones compare less.
public enum Proximity: Sendable, Hashable, Comparable {
    /// The same PU: only in a plan that puts several workers on one.
    case samePU
    /// The same core: SMT siblings, which share all caches.
    case sameCore
    /// The same level 2 cache.
    case sameL2
    /// The same level 3 cache and the same NUMA node.
    case sameL3
    /// The same level 3 cache, but another NUMA node.
    case sameL3OtherNode
    /// The same NUMA node, but another level 3 cache.
    case sameNode
    /// Another NUMA node at this latency, where 10 is local.
    case node(distance: Int)
    /// Another node at an unknown latency; the number counts the levels from the innermost common enclosure.
    case elsewhere(levels: Int)
}
