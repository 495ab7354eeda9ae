// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import CLightProc

/// A raw pointer to a message node: a header of two words, then the message.
///
/// Nodes of up to ``NodePool/nodeSize`` bytes come from the worker's pool, larger ones from the allocator.
@frozen
public struct MessageNode: @unchecked Sendable {
    // Sendable: whoever holds the node owns it; the queue hands it from one owner to the next.
    @usableFromInline let raw: UnsafeMutableRawPointer

    @inlinable @inline(__always)
    init(_ raw: UnsafeMutableRawPointer) { self.raw = raw }

    /// Nil for 0. The lowest bit is none of the address: see `Mailbox.isBehind`.
    @inlinable @inline(__always)
    init?(bits: UInt) {
        guard let raw = UnsafeMutableRawPointer(bitPattern: bits & ~1) else { return nil }
        self.raw = raw
    }

    @inlinable @inline(__always)
    var bits: UInt { UInt(bitPattern: raw) }

    /// The node behind this one in whatever list it is in, as bits; 0 at the end.
    @inlinable @inline(__always)
    var next: UInt {
        get { raw.load(as: UInt.self) }
        nonmutating set { raw.storeBytes(of: newValue, as: UInt.self) }
    }

    /// Makes a node that holds a message and, for an ask, the receipt that learns of its fate.
    @inlinable @inline(__always)
    public static func make<Message>(_ message: consuming Message, receipt: MessageReceipt? = nil) -> MessageNode {
        let node = MessageNode(NodePool.allocate(Layout<Message>.size))
        // `next` is for the mailbox to write.
        (node.raw + 8).storeBytes(
            of: receipt.map { UInt(bitPattern: Unmanaged.passRetained($0).toOpaque()) } ?? 0,
            as: UInt.self
        )
        // safety: the block is large enough for the message at its offset, and nobody else knows it yet.
        (node.raw + Layout<Message>.offset).initializeMemory(as: Message.self, to: message)
        return node
    }

    /// Takes the message and the receipt out and gives the node back.
    @inlinable @inline(__always)
    public func open<Message>(as type: Message.Type) -> (message: Message, receipt: MessageReceipt?) {
        let bits = (raw + 8).load(as: UInt.self) & ~Self.noticeMark
        // safety: the mailbox of a process holds nodes of one message type only, notices aside.
        let message = (raw + Layout<Message>.offset).assumingMemoryBound(to: Message.self).move()
        NodePool.recycle(raw, size: Layout<Message>.size)
        guard let pointer = UnsafeRawPointer(bitPattern: bits) else { return (message, nil) }
        return (message, Unmanaged<MessageReceipt>.fromOpaque(pointer).takeRetainedValue())
    }

    /// As `open`, for the process that runs on the worker of this pool.
    @inlinable @inline(__always)
    func open<Message>(
        as type: Message.Type,
        on pool: UnsafeMutablePointer<crt_nodePool>
    ) -> (message: Message, receipt: UInt) {
        let receipt = (raw + 8).load(as: UInt.self)
        // safety: as in `open`.
        let message = (raw + Layout<Message>.offset).assumingMemoryBound(to: Message.self).move()
        NodePool.recycleHandled(raw, size: Layout<Message>.size, to: pool)
        return (message, receipt)
    }

    /// As `open`, of a node without a receipt, for the process that runs on the worker of this pool.
    @inlinable @inline(__always)
    func openPlain<Message>(as type: Message.Type, on pool: UnsafeMutablePointer<crt_nodePool>) -> Message {
        // safety: as in `open`.
        let message = (raw + Layout<Message>.offset).assumingMemoryBound(to: Message.self).move()
        NodePool.recycleHandled(raw, size: Layout<Message>.size, to: pool)
        return message
    }

    /// Destroys a node that a closed mailbox refused, with its message.
    @inlinable
    public func refuse<Message>(as type: Message.Type) { _ = open(as: type) }

    /// The receipt, if the message is an ask.
    var receipt: MessageReceipt? {
        UnsafeRawPointer(bitPattern: (raw + 8).load(as: UInt.self) & ~Self.noticeMark)
            .map { Unmanaged<MessageReceipt>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Takes only the receipt out; the node keeps its message.
    @inlinable
    func takeReceipt() -> MessageReceipt? {
        if isNotice { return nil }
        let bits = (raw + 8).load(as: UInt.self)
        (raw + 8).storeBytes(of: 0, as: UInt.self)
        return UnsafeRawPointer(bitPattern: bits)
            .map { Unmanaged<MessageReceipt>.fromOpaque($0).takeRetainedValue() }
    }

    // MARK: Notices

    /// What stands in place of a receipt in the node of a ``Notice``.
    @inlinable static var noticeMark: UInt { @inline(__always) get { 1 } }

    /// Makes the node of a notice: for a reactive process of the ``Notice`` itself, for an async one of what its messages are
    /// wrapped into, with the notice in it.
    package static func make<Wrapped>(notice: consuming Wrapped) -> MessageNode {
        let node = make(notice)
        (node.raw + 8).storeBytes(of: noticeMark, as: UInt.self)
        return node
    }

    /// Whether it was made for a notice.
    @inlinable @inline(__always)
    var isNotice: Bool { (raw + 8).load(as: UInt.self) == Self.noticeMark }

    /// Whether it holds a message and nothing else.
    @inlinable @inline(__always)
    var isPlain: Bool { (raw + 8).load(as: UInt.self) == 0 }

    /// Where a message of a type lies in its node.
    @frozen @usableFromInline
    enum Layout<Message> {
        @inlinable @inline(__always)
        static var offset: Int {
            let alignment = MemoryLayout<Message>.alignment
            return (16 + alignment - 1) & ~(alignment - 1)
        }
        @inlinable @inline(__always)
        static var size: Int { offset + MemoryLayout<Message>.size }
    }
}

/// Something that learns when the process that has a message ends without having answered it.
///
/// The receipt of an ask: registered with the process when the message is handed to it, forgotten when the answer came.
open class MessageReceipt: @unchecked Sendable {
    // Sendable: no state of its own; subclasses answer for theirs.
    /// Creates a receipt that is not yet part of any message.
    public init() {}

    /// Whether the fate of the message is known already. Any thread; must not block.
    open var isSettled: Bool { false }

    /// When an answer is too late, on the clock of the process that was asked; nil: never. Constant; any thread.
    open var deadline: Duration? { nil }

    /// The process ended, or refuses messages for ever. Called at most once per process, on any thread; must not block.
    open func processEnded(_ reason: ExitReason) {}

    /// The reply was dropped without an answer, and the process goes on. On any thread; must not block.
    open func unanswered() {}

    /// The process had ended for good before the message reached it. On the sender's thread; must not block.
    open func refused(_ reason: ExitReason?) {}
}
