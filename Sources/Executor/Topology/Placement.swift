// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A plan of workers on a machine: one seat each, computed purely from a topology and options.
///
/// Seats are filled by rounds: the first PU of every core before the second ones (SMT siblings), within a round the
/// fastest core kind first, within a kind in the machine's order, so that few workers sit close together.
/// Guarantees: no PU has two workers (unless `oversubscribes`), only usable PUs are taken, and the steal tiers of each
/// seat hold every other worker exactly once.
/// - Complexity: O(n² d) for n workers and machine depth d.
public struct Placement: Sendable, Equatable {
    /// The wishes that a plan follows.
    public struct Options: Sendable, Equatable {
        /// Whether workers are tied to their PUs.
        public enum Pinning: Sendable, Hashable {
            /// Pins, unless the machine is not this one or a CPU quota leaves usable PUs without a worker.
            case automatic
            /// Pins always.
            case always
            /// Never pins; seats then only say whom to steal from.
            case never
        }

        /// The number of workers, positive; `nil` for the usable PUs limited by the CPU quota.
        public var workerCount: Int?
        /// Whether workers are tied to their PUs.
        public var pinning: Pinning
        /// Whether more workers than usable PUs are accepted; they share PUs in turn. Meant for tests.
        public var oversubscribes: Bool

        /// Creates options; the defaults suit a server.
        public init(workerCount: Int? = nil, pinning: Pinning = .automatic, oversubscribes: Bool = false) {
            self.workerCount = workerCount
            self.pinning = pinning
            self.oversubscribes = oversubscribes
        }
    }

    /// The seats; `seats[i].index == i`.
    public let seats: [Seat]
    /// Whether the workers should be pinned to the PUs of their seats.
    public let pinsWorkers: Bool
    /// Why there are this many workers, and whether they are pinned, in one line for people.
    public let explanation: String
    /// What could not be found out about the machine, in sentences: ``Topology/warnings``.
    public let warnings: [String]
    /// The kernel's numbers of the usable PUs by node, whether they have a worker or not.
    private let usable: [Int?: [Int]]
    /// By the kernel's number of each PU of the machine, whether it may be used or not: a seat of its node, or of the nearest
    /// node that has any.
    let nearestSeats: [Int: Int]
    /// The kernel's number of each NUMA node, by hwloc's logical one.
    let osNodes: [Int: Int]

    /// The kernel's numbers of all PUs of a node that may be used, ascending; with nil those that belong to no node.
    ///
    /// For threads that are no workers but work for some: they should stay near, and not on the one PU of a worker.
    public func usableOSPUs(ofNode node: Int?) -> [Int] { usable[node] ?? [] }

    /// Plans workers for a machine.
    ///
    /// - Throws: `noUsableProcessor` if the topology allows none; `invalidWorkerCount` for a count below one, or above
    ///   the usable PUs unless `oversubscribes`.
    public init(_ topology: Topology, options: Options = Options()) throws(TopologyError) {
        let order = Self.seatingOrder(of: topology)
        guard !order.isEmpty else {
            throw TopologyError(
                .noUsableProcessor,
                "no processor of this topology may be used; check the affinity mask (taskset -p) and the cpuset of the process"
            )
        }
        let count = options.workerCount ?? min(topology.suggestedWorkerCount, Self.maximumWorkerCount)
        guard count >= 1 else {
            throw TopologyError(.invalidWorkerCount, "the number of workers must be at least 1, got \(count)")
        }
        guard count <= order.count || options.oversubscribes else {
            throw TopologyError(
                .invalidWorkerCount,
                "\(count) workers need \(count) processors, but only \(order.count) are usable; ask for \(order.count) or fewer"
            )
        }
        // A plan larger than this is a mistake, and the tiers of all seats would take n² memory.
        guard count <= Self.maximumWorkerCount else {
            throw TopologyError(
                .invalidWorkerCount,
                "\(count) workers are too many; ask for \(Self.maximumWorkerCount) or fewer"
            )
        }

        warnings = topology.warnings
        osNodes = Dictionary(uniqueKeysWithValues: topology.nodes.map { ($0.index, $0.osIndex) })
        usable = Dictionary(grouping: order, by: \.node).mapValues { $0.map(\.osIndex).sorted() }
        let processors = (0..<count).map { order[$0 % order.count] }
        let distances = ProximityMap(topology)
        seats = processors.indices.map { index in
            let processor = processors[index]
            return Seat(
                index: index,
                pu: processor.index,
                osPU: processor.osIndex,
                core: processor.core,
                l3: processor.l3,
                node: processor.node,
                kind: processor.kind,
                memoryNode: topology.memoryNode(for: processor),
                tiers: distances.tiers(of: index, among: processors)
            )
        }
        nearestSeats = distances.nearestSeats(processors)
        let reason = CountReason(
            topology: topology,
            usable: order.count,
            count: count,
            asked: options.workerCount != nil
        )
        pinsWorkers =
            switch options.pinning {
            case .always: true
            case .never: false
            case .automatic:
                topology.origin.isThisMachine && !reason.leavesProcessorsToNeighbours && count <= order.count
            }
        explanation = reason.sentence + (pinsWorkers ? "; pinned" : reason.notPinned(options.pinning))
    }

    /// The most workers that a plan can have; without a wish, a larger machine gets as many.
    public static let maximumWorkerCount = 4096

    /// The usable PUs in the order in which workers take them.
    private static func seatingOrder(of topology: Topology) -> [Topology.Processor] {
        let ranks = Dictionary(uniqueKeysWithValues: topology.kinds.map { ($0.index, $0.rank ?? 0) })
        func rank(_ processor: Topology.Processor) -> Int { ranks[processor.kind] ?? 0 }
        let fastestFirst = topology.usableProcessors.sorted {
            (rank($1), $0.index) < (rank($0), $1.index)
        }
        // The fastest usable PU of a core opens it; the others are its siblings, in rounds.
        var takenOfCore: [Int: Int] = [:]
        let rounds = fastestFirst.map { processor in
            guard let core = processor.core else { return 0 }
            defer { takenOfCore[core, default: 0] += 1 }
            return takenOfCore[core, default: 0]
        }
        return zip(rounds, fastestFirst).enumerated()
            .sorted { ($0.element.0, $0.offset) < ($1.element.0, $1.offset) }
            .map(\.element.1)
    }
}

/// Why a plan has as many workers as it has.
private struct CountReason {
    let topology: Topology
    let usable: Int
    let count: Int
    let asked: Bool

    /// Whether a quota, and not a shortage of PUs, keeps the count low. All containers of a host would then pin their
    /// few workers to the same first PUs, while the kernel could use all of them: better not pin.
    var leavesProcessorsToNeighbours: Bool { topology.allowance.quota != nil && count < usable }

    func notPinned(_ pinning: Placement.Options.Pinning) -> String {
        if pinning == .never { return "; not pinned, as asked for" }
        if !topology.origin.isThisMachine { return "; not pinned, as this is another machine" }
        if count > usable { return "; not pinned, as workers share PUs" }
        return "; not pinned, so that the kernel can use all \(usable) PUs"
    }

    var sentence: String {
        let workers = count == 1 ? "1 worker" : "\(count) workers"
        if asked { return "\(workers), as asked for, on \(usable) usable PUs" }
        let usableOfAll = "\(usable) of \(topology.processors.count + topology.allowance.excluded.count) PUs usable"
        if count == Placement.maximumWorkerCount, count < usable {
            return "\(workers), the most of a plan: \(usableOfAll)"
        }
        guard let quota = topology.allowance.quota else {
            return "\(workers): \(usableOfAll), " + (topology.origin.isThisMachine ? "no CPU quota" : "one worker each")
        }
        let limit = "quota of \(quota.cpus.rounded(toPlaces: 2)) CPUs (\(quota.source))"
        return "\(workers): \(usableOfAll), \(limit)" + (count < usable ? ", rounded up" : " is no limit")
    }
}

extension Double {
    fileprivate func rounded(toPlaces places: Int) -> String {
        let factor = [1.0, 10, 100, 1000][places]
        let value = (self * factor).rounded() / factor
        return value == value.rounded() && value.magnitude < 1e15 ? String(Int(value)) : String(value)
    }
}

extension Topology {
    /// The kernel's number of the node that memory for a PU comes from: its own, or the nearest one with memory.
    fileprivate func memoryNode(for processor: Processor) -> Int? {
        guard let own = processor.node else { return nil }
        let node = nodes[own]
        // A file may leave all sizes out; then the nodes are taken to have memory.
        guard node.memoryBytes == 0, nodes.contains(where: { $0.memoryBytes > 0 }) else { return node.osIndex }
        let nearest = nodes.filter { $0.memoryBytes > 0 }.min {
            (node.distance(to: $0), $0.index) < (node.distance(to: $1), $1.index)
        }
        return nearest?.osIndex
    }
}

extension Topology.Node {
    fileprivate func distance(to other: Topology.Node) -> Int { distances[other.index] ?? .max }
}
