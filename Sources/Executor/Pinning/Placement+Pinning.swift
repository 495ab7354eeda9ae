// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The workers that a set of processors stands for.
struct PinnedPlace: Equatable, Sendable {
    /// Their seats, ascending; at least one.
    let seats: [Int]
    /// Where threads may run that work for them, by the kernel's numbers, ascending.
    let osPUs: [Int]
}

extension Placement {
    /// The workers that processes are to run on that are pinned to a set. Pure.
    ///
    /// - Throws: ``PinningError`` if there is none, or if one of the processors has none.
    func place(of cores: CoreSet) throws(PinningError) -> PinnedPlace {
        switch cores.kind {
        case .node(let number):
            let chosen = seats.filter { $0.node.flatMap { osNodes[$0] } == number }
            guard let first = chosen.first else {
                throw PinningError(.noSuchNode, "cannot pin to NUMA node \(number): no worker is there; \(whatThereIs)")
            }
            return PinnedPlace(seats: chosen.map(\.index), osPUs: usableOSPUs(ofNode: first.node))
        case .cores(let numbers):
            if numbers.isEmpty {
                throw PinningError(.emptySet, "cannot pin to an empty set of processors; \(whatThereIs)")
            }
            let known = Set(seats.map(\.osPU))
            let missing = numbers.filter { !known.contains($0) }
            guard missing.isEmpty else {
                throw PinningError(
                    .noSuchProcessor,
                    "cannot pin to \(cores): there is no worker on \(CPUList.format(missing)); \(whatThereIs)"
                )
            }
            let wanted = Set(numbers)
            return PinnedPlace(seats: seats.filter { wanted.contains($0.osPU) }.map(\.index), osPUs: numbers)
        }
    }

    /// On which processors there are workers, for people.
    private var whatThereIs: String {
        func list(_ seats: [Seat]) -> String { CPUList.format(Set(seats.map(\.osPU)).sorted()) }
        let byNode = Dictionary(grouping: seats) { $0.node.flatMap { osNodes[$0] } }
        let nodes = byNode.keys.compactMap { $0 }.sorted()
        let all = "workers are on processors \(list(seats))"
        if nodes.isEmpty { return all + ", and no NUMA nodes are known" }
        let parts = nodes.map { "NUMA node \($0): \(list(byNode[$0] ?? []))" }
        return "\(all) (\(parts.joined(separator: "; ")))"
    }
}
