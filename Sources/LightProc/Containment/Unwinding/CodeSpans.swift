// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A sorted table from address ranges to what is there; lookups allocate nothing.
///
/// Invariant: the spans are sorted and do not overlap.
package struct CodeSpans: Sendable {
    private struct Span {
        var start: UInt
        var end: UInt
        var origin: FrameOrigin
    }

    private var spans: [Span] = []

    package init() {}

    package var count: Int { spans.count }

    /// Adds a range; where it overlaps one that is there, the earlier one wins.
    package mutating func insert(_ range: Range<UInt>, _ origin: FrameOrigin) {
        let index = insertionIndex(of: range.lowerBound)
        var (start, end) = (range.lowerBound, range.upperBound)
        if index > 0 { start = max(start, spans[index - 1].end) }
        if index < spans.count { end = min(end, spans[index].start) }
        guard start < end else { return }
        spans.insert(Span(start: start, end: end, origin: origin), at: index)
    }

    /// Adds a range behind all others; adjacent ranges of one origin become one.
    package mutating func append(_ range: Range<UInt>, _ origin: FrameOrigin) {
        let start = max(range.lowerBound, spans.last?.end ?? 0)
        guard start < range.upperBound else { return }
        if let last = spans.last, last.origin == origin, start - last.end < 64 {
            spans[spans.count - 1].end = range.upperBound
        } else {
            spans.append(Span(start: start, end: range.upperBound, origin: origin))
        }
    }

    package func origin(of address: UInt) -> FrameOrigin? {
        let index = insertionIndex(of: address &+ 1)
        guard index > 0, address < spans[index - 1].end else { return nil }
        return spans[index - 1].origin
    }

    /// The number of spans that start below an address.
    private func insertionIndex(of address: UInt) -> Int {
        var (low, high) = (0, spans.count)
        while low < high {
            let middle = (low + high) / 2
            if spans[middle].start < address { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
