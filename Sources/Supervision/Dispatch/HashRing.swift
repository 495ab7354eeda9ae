// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Consistent hashing (Karger et al. 1997): slots on a ring, each at 64 points; a key belongs to the next point. A pure value.
///
/// When a slot comes, only keys that are now its own move; when one goes, only those that were its own. Points depend on the
/// number of the slot alone, so that a ring of the same slots is the same everywhere.
struct HashRing: Sendable {
    struct Point: Sendable, Equatable {
        let hash: UInt64
        let slot: UInt32
    }
    static let pointsPerSlot: UInt64 = 64

    /// In order, as of the last change that a choice has seen: a group that starts or stops is put in or taken out at once.
    private var points: [Point] = []
    /// Slots that came since then.
    private var fresh: Set<UInt32> = []
    /// Slots whose points went since then; one that came again is in `fresh`, too.
    private var gone: Set<UInt32> = []

    mutating func add(_ slot: UInt32) { fresh.insert(slot) }

    mutating func remove(_ slot: UInt32) {
        if fresh.remove(slot) == nil { gone.insert(slot) }
    }

    /// The slot that a key belongs to; nil if there is none.
    ///
    /// - Complexity: O(log n) in the number of slots; after a change O(n), once.
    mutating func slot(of key: DistributionKey) -> UInt32? {
        if !gone.isEmpty {
            points.removeAll { gone.contains($0.slot) }
            gone = []
        }
        if !fresh.isEmpty { merge() }
        var (low, high) = (0, points.count)
        // Ends: the range shrinks in each round.
        while low < high {
            let middle = (low + high) / 2
            if points[middle].hash < key.hash { low = middle + 1 } else { high = middle }
        }
        return points.isEmpty ? nil : points[low == points.count ? 0 : low].slot
    }

    private mutating func merge() {
        var added: [Point] = []
        added.reserveCapacity(fresh.count * Int(Self.pointsPerSlot))
        for slot in fresh {
            for number in 0..<Self.pointsPerSlot {
                // Twice: keys made of small numbers are mixed once, and would all be points of the first slot.
                let hash = DistributionKey.mixed(~DistributionKey.mixed(UInt64(slot) << 32 | number))
                added.append(Point(hash: hash, slot: slot))
            }
        }
        // The words that are mixed differ, and mixing is one-to-one: no two points are equal.
        added.sort { $0.hash < $1.hash }
        var merged: [Point] = []
        merged.reserveCapacity(points.count + added.count)
        var next = 0
        for point in added {
            while next < points.count, points[next].hash < point.hash {
                merged.append(points[next])
                next += 1
            }
            merged.append(point)
        }
        merged += points[next...]
        points = merged
        fresh = []
    }
}
