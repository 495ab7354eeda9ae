// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Who is in which process group: a pure value. A process is in a group or not; joining again changes nothing.
struct GroupTable: Sendable {
    private struct Group {
        /// In the order in which they joined.
        var members: [Recipient] = []
        var isMember: Set<ProcID> = []
    }
    private var groups: [String: Group] = [:]
    private var groupsOfProcess: [ProcID: Set<String>] = [:]

    /// The groups that have members, in order.
    var names: [String] { groups.keys.sorted() }

    func members(of group: String) -> [Recipient] { groups[group]?.members ?? [] }

    /// False if it was a member before.
    mutating func join(_ group: String, _ recipient: Recipient) -> Bool {
        guard groups[group, default: Group()].isMember.insert(recipient.id).inserted else { return false }
        groups[group]?.members.append(recipient)
        groupsOfProcess[recipient.id, default: []].insert(group)
        return true
    }

    /// The member that left; nil if it was none.
    mutating func leave(_ group: String, _ id: ProcID) -> Recipient? {
        guard groups[group]?.isMember.remove(id) != nil,
            let place = groups[group]?.members.firstIndex(where: { $0.id == id })
        else { return nil }
        let member = groups[group]?.members.remove(at: place)
        if groups[group]?.members.isEmpty == true { groups[group] = nil }
        groupsOfProcess[id]?.remove(group)
        if groupsOfProcess[id]?.isEmpty == true { groupsOfProcess[id] = nil }
        return member
    }

    /// A process has ended: it leaves all its groups.
    mutating func ended(_ id: ProcID) -> [(group: String, member: Recipient)] {
        (groupsOfProcess[id] ?? []).sorted().compactMap { group in leave(group, id).map { (group, $0) } }
    }
}
