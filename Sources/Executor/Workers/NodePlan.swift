// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The NUMA nodes of a placement that have workers, numbered from 0.
struct NodePlan {
    let count: Int
    /// By seat index.
    let nodeOfSeat: [Int]
    /// By the kernel's number of each processing unit of the machine, with or without a worker: its node, or the nearest of
    /// these.
    let nodeOfPU: [Int: Int]
    /// What threads of each node that are no workers are tied to.
    let sites: [BlockingPool.Site]

    init(_ placement: Placement) {
        // Seats without a node form a node of their own.
        var numbers: [Int?: Int] = [:]
        nodeOfSeat = placement.seats.map { seat in
            if let known = numbers[seat.node] { return known }
            numbers[seat.node] = numbers.count
            return numbers.count - 1
        }
        count = numbers.count
        var sites = Array(repeating: BlockingPool.Site(), count: numbers.count)
        if placement.pinsWorkers {
            for (seat, node) in zip(placement.seats, nodeOfSeat) {
                sites[node] = .init(osPUs: placement.usableOSPUs(ofNode: seat.node), memoryNode: seat.memoryNode)
            }
        }
        self.sites = sites
        nodeOfPU = placement.nearestSeats.mapValues { [nodeOfSeat] in nodeOfSeat[$0] }
    }

    /// The nodes but the seat's own, nearest first.
    func otherNodes(from seat: Seat) -> [Int] {
        var seen: Set = [nodeOfSeat[seat.index]]
        return seat.tiers.flatMap(\.workers).map { nodeOfSeat[$0] }.filter { seen.insert($0).inserted }
    }
}
