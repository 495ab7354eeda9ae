// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Lists of CPU numbers in the kernel's notation: `0-3,8,10-11`.
package enum CPUList {
    /// Returns the numbers in ascending order, or `nil` if the text is no such list.
    ///
    /// - Parameter limit: numbers from here on make the list invalid, which bounds the memory a broken file can take.
    package static func parse(_ text: String, limit: Int = 1 << 20) -> [Int]? {
        var numbers: Set<Int> = []
        let trimmed = text.split(whereSeparator: \.isWhitespace)
        guard trimmed.count <= 1 else { return nil }
        for part in (trimmed.first ?? "").split(separator: ",") {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1],
                first >= 0, first <= last, last < limit
            else { return nil }
            numbers.formUnion(first...last)
        }
        return numbers.sorted()
    }

    /// Returns ascending numbers in the kernel's notation, `"none"` for an empty list.
    package static func format(_ numbers: [Int]) -> String {
        var parts: [String] = []
        var rest = numbers[...]
        while let first = rest.popFirst() {
            var last = first
            while let next = rest.first, next == last + 1 { last = rest.removeFirst() }
            parts.append(first == last ? "\(first)" : "\(first)-\(last)")
        }
        return parts.isEmpty ? "none" : parts.joined(separator: ",")
    }
}
