// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Which member each key stuck to, for the keys used last. A pure value.
///
/// At most so many keys are remembered; for one more, the key that was not used for longest is forgotten. All of it is O(1).
struct StickyTable: Sendable {
    private struct Entry {
        let key: DistributionKey
        var member: UInt64
        /// Neighbours by the time of the last use, as places in `entries`; -1: none.
        var newer: Int
        var older: Int
    }
    let limit: Int
    private var places: [DistributionKey: Int] = [:]
    private var entries: [Entry] = []
    private var newest = -1
    private var oldest = -1

    /// - Precondition: `limit` is positive.
    init(limit: Int) {
        precondition(limit > 0, "a sticky distributor must remember at least one key, got \(limit)")
        self.limit = limit
    }

    var count: Int { entries.count }

    /// The member that a key stuck to, which counts as a use; nil if the key is not remembered.
    mutating func member(of key: DistributionKey) -> UInt64? {
        guard let place = places[key] else { return nil }
        unlink(place)
        linkAsNewest(place)
        return entries[place].member
    }

    /// A key sticks to a member from now on.
    mutating func stick(_ key: DistributionKey, to member: UInt64) {
        if let place = places[key] {
            entries[place].member = member
            unlink(place)
            linkAsNewest(place)
        } else if entries.count < limit {
            entries.append(Entry(key: key, member: member, newer: -1, older: -1))
            places[key] = entries.count - 1
            linkAsNewest(entries.count - 1)
        } else {
            let place = oldest
            unlink(place)
            places[entries[place].key] = nil
            entries[place] = Entry(key: key, member: member, newer: -1, older: -1)
            places[key] = place
            linkAsNewest(place)
        }
    }

    private mutating func unlink(_ place: Int) {
        let (newer, older) = (entries[place].newer, entries[place].older)
        if newer < 0 { newest = older } else { entries[newer].older = older }
        if older < 0 { oldest = newer } else { entries[older].newer = newer }
    }

    private mutating func linkAsNewest(_ place: Int) {
        entries[place].newer = -1
        entries[place].older = newest
        if newest < 0 { oldest = place } else { entries[newest].newer = place }
        newest = place
    }
}
