// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What decides, under a keyed strategy, which member gets a message: equal keys, the same member.
///
/// Made of a string or a number it is the same in every run of the program, and on every machine.
public struct DistributionKey: Sendable, Hashable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    let hash: UInt64

    /// A key made of the bytes of a string.
    public init(_ string: String) {
        var string = string
        // FNV-1a by Fowler, Noll and Vo; mixed, as it spreads short strings badly over the high bits.
        hash = string.withUTF8 { bytes in
            Self.mixed(bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
        }
    }

    /// A key made of a number.
    public init(_ number: some BinaryInteger) { hash = Self.mixed(UInt64(truncatingIfNeeded: number)) }

    /// A key made of any value, by its `hash(into:)`: another one in each run of the program. Calls that on this thread.
    public init(hashing value: some Hashable) {
        hash = Self.mixed(UInt64(truncatingIfNeeded: value.hashValue))
    }

    /// A key made of the bytes of a string.
    public init(stringLiteral value: String) { self.init(value) }
    /// A key made of a number.
    public init(integerLiteral value: Int) { self.init(value) }

    /// The finaliser of SplitMix64: every bit of the result depends on every bit of the argument.
    static func mixed(_ word: UInt64) -> UInt64 {
        var z = word &+ 0x9e37_79b9_7f4a_7c15
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
