// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Looking at what waits in the mailbox of an async process, and taking one message out of the middle.
///
/// What is looked at is copied under the lock of the process and judged outside of it, as that is the user's code. Positions hold as long
/// as nobody takes a message meanwhile, which the epoch of ``MailboxExtras`` tells.
extension LightProc {
    /// How far a selective receive has looked. Only as long as nothing is taken meanwhile.
    package struct Selection {
        fileprivate var epoch: UInt?
        fileprivate var control = 0
        fileprivate var sources = 0
        /// The last of the saved messages that was looked at.
        fileprivate var saved: UInt = 0

        package init() {}
    }

    /// A message that waits, and where.
    package struct Candidate<Message> {
        fileprivate enum Place {
            case control(MessageNode)
            case source(any MessageSource)
            case saved(MessageNode)
        }
        fileprivate let place: Place
        package let message: Message
    }

    /// Copies of some messages that wait and have not been looked at yet, in the order in which they would be received; nil when
    /// this incarnation receives nothing more. By an async process.
    package final func candidates<Message>(
        _ selection: inout Selection,
        as type: Message.Type
    ) -> [Candidate<Message>]? {
        side.content.withLock { content in
            guard state.phase == .active else { return nil }
            let extras = content.makeExtras()
            while let node = mailbox.take() { extras.save(node) }
            if selection.epoch != extras.epoch {
                selection = Selection()
                selection.epoch = extras.epoch
            }
            var found: [Candidate<Message>] = []
            for node in content.control.nodes.dropFirst(selection.control) {
                selection.control += 1
                found.append(Candidate(place: .control(node), message: node.peek(as: type)))
            }
            for source in extras.waitingSources.dropFirst(selection.sources) {
                selection.sources += 1
                if let message = source.preview as? Message {
                    found.append(Candidate(place: .source(source), message: message))
                }
            }
            // So many at a time: senders wait for the lock.
            var next = MessageNode(bits: selection.saved)?.next ?? (selection.saved == 0 ? extras.saved : 0)
            while found.count < 64, let node = MessageNode(bits: next) {
                found.append(Candidate(place: .saved(node), message: node.peek(as: type)))
                selection.saved = node.bits
                next = node.next
            }
            return found
        }
    }

    /// Takes a message that was looked at; nil if something was taken meanwhile: then the selection begins anew.
    package final func take<Message>(_ candidate: Candidate<Message>, _ selection: Selection) -> MessageNode? {
        let node = side.content.withLock { content -> MessageNode? in
            guard state.phase == .active, let extras = content.extras, selection.epoch == extras.epoch else {
                return nil
            }
            extras.epoch &+= 1
            let node: MessageNode
            switch candidate.place {
            case .control(let place):
                content.control.remove(place)
                node = place
            case .saved(let place):
                extras.remove(place)
                node = place
            case .source(let source):
                extras.remove(source)
                guard case .message(let made)? = source.takeTurn() else { return nil }
                node = made
            }
            content.inHand = nil
            if let receipt = node.receipt { content.register(receipt) }
            return node
        }
        if node != nil { Self.spendReduction() }
        return node
    }

    /// Destroys the first message that fits, one of the runtime's own. By an async process.
    ///
    /// - Returns: Whether there was one.
    package final func discardFirst<Message>(as type: Message.Type, where fits: (Message) -> Bool) -> Bool {
        let node = side.content.withLock { content -> MessageNode? in
            let extras = content.makeExtras()
            while let node = mailbox.take() { extras.save(node) }
            if let node = content.control.nodes.first(where: { fits($0.peek(as: type)) }) {
                content.control.remove(node)
                extras.epoch &+= 1
                return node
            }
            var next = extras.saved
            while let node = MessageNode(bits: next), !fits(node.peek(as: type)) { next = node.next }
            guard let node = MessageNode(bits: next) else { return nil }
            extras.remove(node)
            extras.epoch &+= 1
            return node
        }
        node?.refuse(as: type)
        return node != nil
    }

    /// Waits until there is something new to look at, or the calling task is cancelled; the incarnation may be over then.
    nonisolated(nonsending) package final func waitForMore(_ selection: Selection) async {
        let gate = SleepGate()
        let waits = side.content.withLock { content in
            guard state.phase == .active, let extras = content.extras, extras.epoch == selection.epoch,
                content.control.nodes.count == selection.control, extras.waitingSources.count == selection.sources
            else { return false }
            // Whoever finds the mailbox idle comes to the lock after that.
            guard mailbox.isEmpty, mailbox.settle() || mailbox.isIdle else { return false }
            extras.append(gate)
            return true
        }
        guard waits else { return }
        await withTaskCancellationHandler {
            await gate.wait()
        } onCancel: {
            gate.open()
        }
        side.content.withLock { $0.extras?.remove(gate) }
    }
}

extension ControlLane {
    /// The nodes, oldest first.
    var nodes: [MessageNode] {
        var nodes: [MessageNode] = []
        guard let last = lastNode else { return nodes }
        var bits = last.next
        while let node = MessageNode(bits: bits) {
            nodes.append(node)
            if node.bits == last.bits { break }
            bits = node.next
        }
        return nodes
    }

    /// Removes a node that is in it. O(n).
    mutating func remove(_ node: MessageNode) {
        let rest = nodes.filter { $0.bits != node.bits }
        self = Self()
        for each in rest { append(each) }
    }
}

extension MessageNode {
    /// A copy of the message.
    func peek<Message>(as type: Message.Type) -> Message {
        // safety: the mailbox of a process holds nodes of one message type only; who looks is the consumer.
        (raw + Layout<Message>.offset).assumingMemoryBound(to: Message.self).pointee
    }
}
