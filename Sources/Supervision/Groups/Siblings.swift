// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What stands under one supervisor by name, groups and supervisors: no two of them may lead to the same child. A pure value.
///
/// Members of a group are called after it, with a number, and a supervisor is called as it is. So groups of different names have
/// different members (which is the group stands before the last dash), and a supervisor `a-7` would be the same as a member of the group `a`.
///
/// Adding, finding and removing one costs the same however many there are.
struct Siblings<Value: Sendable>: Sendable {
    private struct Entry: Sendable {
        let value: Value
        /// It is its own only member; a group's are called after it, with a number.
        let isSupervisor: Bool
    }
    private var entries: [String: Entry] = [:]
    /// How many supervisors have such names as members of a group, by the name of that group, whether there is one or not.
    private var numbered: [String: Int] = [:]

    subscript(name: String) -> Value? { entries[name]?.value }

    var values: [Value] { entries.values.map(\.value) }

    /// Some of the names, for people.
    func names(atMost limit: Int) -> [String] { entries.keys.prefix(limit).sorted() }

    /// Whether members of one of the groups are called so, whether there is such a member or not.
    func isNameOfMember(_ name: String) -> Bool {
        guard let group = Self.group(ofMember: name), let entry = entries[group] else { return false }
        return !entry.isSupervisor
    }

    /// - Throws: `duplicateName`: also when a member of a group, however many it has, would be called as a supervisor is.
    mutating func add(_ value: Value, _ name: String, isSupervisor: Bool) throws(SupervisionError) {
        if entries[name] != nil {
            throw SupervisionError(.duplicateName, "two groups of one supervisor are called \(name)")
        }
        if isSupervisor, isNameOfMember(name) { throw Self.clash(name) }
        if !isSupervisor, numbered[name] != nil { throw Self.clash("\(name)-0, or another with a number,") }
        entries[name] = Entry(value: value, isSupervisor: isSupervisor)
        if isSupervisor, let group = Self.group(ofMember: name) { numbered[group, default: 0] += 1 }
    }

    mutating func remove(_ name: String) {
        guard entries.removeValue(forKey: name)?.isSupervisor == true, let group = Self.group(ofMember: name),
            let count = numbered[group]
        else { return }
        numbered[group] = count > 1 ? count - 1 : nil
    }

    private static func clash(_ name: String) -> SupervisionError {
        SupervisionError(
            .duplicateName,
            "the supervisor \(name) is called as a member of a group under the same supervisor; choose another name"
        )
    }

    /// The group of whose members one would have this name: `a` of `a-0`.
    private static func group(ofMember name: String) -> String? {
        let bytes = name.utf8
        guard let dash = bytes.lastIndex(of: UInt8(ascii: "-")), dash > bytes.startIndex else { return nil }
        let number = bytes[bytes.index(after: dash)...]
        let isNumber = !number.isEmpty && number.allSatisfy { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }
        guard isNumber, number.count == 1 || number.first != UInt8(ascii: "0") else { return nil }
        return String(Substring(bytes[..<dash]))
    }
}

extension Siblings<Void> {
    /// - Throws: As `add`.
    static func validate(_ children: [Children]) throws(SupervisionError) {
        var siblings = Siblings()
        for child in children { try siblings.add((), child.name, isSupervisor: child.nest != nil) }
    }
}
