// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// Which of the two queues of a mailbox a message waits in.
public enum MessageLane: Sendable, Hashable {
    /// The lane of all messages that are not urgent: first in, first out.
    case user
    /// The lane that overtakes: what waits here is taken before every message of the user lane.
    case control
}

/// The messages that wait in the control lane, oldest first: a ring of nodes behind a lock, known by its newest.
struct ControlLane {
    /// The newest message, whose `next` is the oldest; 0 if there is none.
    private var newest: UInt = 0

    var isEmpty: Bool { newest == 0 }
    var lastNode: MessageNode? { MessageNode(bits: newest) }

    mutating func append(_ node: MessageNode) {
        if let last = MessageNode(bits: newest) {
            node.next = last.next
            last.next = node.bits
        } else {
            node.next = node.bits
        }
        newest = node.bits
    }

    mutating func takeFirst() -> MessageNode? {
        guard let last = MessageNode(bits: newest), let first = MessageNode(bits: last.next) else { return nil }
        if first.bits == last.bits { newest = 0 } else { last.next = first.next }
        return first
    }

    /// Removes all, as a chain that goes on with another.
    mutating func takeAll(before rest: UInt) -> UInt {
        guard let last = MessageNode(bits: newest) else { return rest }
        let first = last.next
        last.next = rest
        newest = 0
        return first
    }
}

extension LightProc {
    /// Uses the stack up here and now if little is left of it: before somebody is promised what a message, or the resumption of
    /// his task, is to keep.
    package static func reserveStack() { crt_probeStackForMore() }

    /// Adds a message to a lane of the mailbox.
    ///
    /// In the control lane: first in, first out per sending thread; taken before every message that waits in the user
    /// lane, and after the message in hand. An order to stop or to be killed overtakes it. Otherwise as ``push(_:)``: it
    /// wakes an idle process, survives a restart, and is one of what is left when the process closes. The first message
    /// of that lane makes the process allocate some hundred bytes; each costs a lock. Any thread.
    /// - Returns: False when the process is closed; then the node still belongs to the caller.
    public func push(_ node: MessageNode, lane: MessageLane) -> Bool {
        switch lane {
        case .user: return push(node)
        case .control: break
        }
        let isTaken = withSide { content in
            // Closing takes what is in the lane under this lock, after it has changed the phase.
            if state.phase == .closed { return false }
            content.control.append(node)
            return true
        }
        guard isTaken else { return false }
        if isReactive { order(.control) } else { wakeReceiver() }
        return true
    }

    /// Handles the oldest message of the control lane. By the consumer of a reactive process.
    func handleControlMessage() {
        let (node, source) = withSide { content in
            let node = content.control.takeFirst()
            let source = node == nil ? content.extras?.takeSource() : nil
            // Under the lock: who adds a message orders after that, so that this does not take its order away.
            if content.control.isEmpty, content.extras?.hasSources != true { orders.withdraw(.control) }
            return (node, source)
        }
        do {
            if let node { return try step(.handle(node)) }
            // Nil when the sender's order came later than the message was seen.
            switch source?.takeTurn() {
            case .message(let node): try step(.handle(node))
            case .signal(let signal): try step(.signal(signal))
            case nil: break
            }
        } catch {
            handlerFailed(error)
        }
    }
}
