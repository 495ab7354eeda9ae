// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A finite set of PU or node numbers in hwloc's notation: `0x00000003,0x0000ffff`, the most significant part first.
struct HwlocSet: Equatable {
    /// 32 numbers each, the lowest first; the last word is not 0.
    private var words: [UInt32]

    /// Larger numbers are no machine's, and would only take memory.
    static let limit = 1 << 16

    /// Reads hwloc's notation; `nil` if it is none, the set is infinite (`0xf...f`), or a number reaches `limit`.
    init?(_ text: String) {
        words = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false).reversed() {
            guard words.count < Self.limit / 32 else { return nil }
            // hwloc leaves out parts that are 0.
            if part.isEmpty, !text.isEmpty {
                words.append(0)
                continue
            }
            guard part.hasPrefix("0x"), part.utf8.count <= 10, let word = UInt32(part.dropFirst(2), radix: 16),
                part.dropFirst(2).first != "+"
            else { return nil }
            words.append(word)
        }
        while words.last == 0 { words.removeLast() }
    }

    /// The empty set.
    init() { words = [] }

    /// The set of one number.
    init(_ number: Int) {
        words = Array(repeating: 0, count: number / 32 + 1)
        words[number / 32] = 1 << UInt32(number % 32)
    }

    /// hwloc's notation.
    var text: String {
        guard !words.isEmpty else { return "0x0" }
        return words.reversed().map { word in
            let digits = String(word, radix: 16)
            return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
        }.joined(separator: ",")
    }

    var isEmpty: Bool { words.isEmpty }

    /// The lowest number, or `nil` in an empty set.
    var first: Int? {
        words.firstIndex { $0 != 0 }.map { $0 * 32 + words[$0].trailingZeroBitCount }
    }

    func isSubset(of other: HwlocSet) -> Bool {
        words.count <= other.words.count && zip(words, other.words).allSatisfy { $0 & ~$1 == 0 }
    }

    func isDisjoint(with other: HwlocSet) -> Bool { zip(words, other.words).allSatisfy { $0 & $1 == 0 } }

    mutating func formUnion(_ other: HwlocSet) {
        while words.count < other.words.count { words.append(0) }
        for index in other.words.indices { words[index] |= other.words[index] }
    }
}
