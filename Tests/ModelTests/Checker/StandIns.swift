// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Stands for the process's message node: a number of a node of the running ``Model``, with its link.
public struct MessageNode {
    /// As the mailbox packs it: above its marks, never 0.
    public let bits: UInt

    init(index: Int) { bits = UInt(index + 1) * 16 }

    /// Nil for 0. The lowest bit is none of the number: see `Mailbox.isBehind`.
    public init?(bits: UInt) {
        if bits & ~1 == 0 { return nil }
        self.bits = bits & ~1
    }

    private var link: PlainCell { Model.running!.nodes[Int(bits / 16) - 1] }

    /// The node behind this one.
    public var next: UInt {
        get { link.read() }
        nonmutating set { link.write(newValue) }
    }
}

/// Stands for what a worker runs: a number.
struct RunItem {
    let bits: UInt
}
