// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Publish and subscribe: what is published gets to every process that subscribed. Named, typed, of one system.
///
/// Topics of one name and of different message types are different topics. There is nothing to create or destroy: a topic is
/// there while somebody holds one or has subscribed.
///
/// ```swift
/// let prices = Topic<Price>("prices", in: system)
/// prices.subscribe(board)
/// prices.subscribe(trader, where: { $0.symbol == "X" }) { .priceChanged($0) }
/// prices.publish(Price("X", 12))
/// ```
public struct Topic<Message: Sendable>: Sendable {
    /// What the topic is called.
    public let name: String
    private let cell: TopicCell

    /// Finds the topic of a name and of this type of messages.
    public init(_ name: String, in system: BastionSystem = .shared) {
        self.name = name
        let key = TopicName(name: name, type: ObjectIdentifier(Message.self))
        cell = system.topics.cell(key) { TopicCell(key, system) }
    }

    /// Sends a message to every subscriber; returns how many took it.
    ///
    /// Messages of one publisher arrive in order. Any thread; never blocks. O(subscribers), under no lock.
    @discardableResult
    public func publish(_ message: Message) -> Int {
        cell.subscribers.count { ProcRef<Message>($0.target).tell(message) }
    }

    /// Has a process get what is published from now on, until it ends for good; restarts do not matter.
    ///
    /// A process has one subscription to a topic: a second one, as after a restart, takes the place of the first.
    /// - Returns: False if the process has ended for good.
    @discardableResult
    public func subscribe(_ ref: ProcRef<Message>) -> Bool {
        cell.subscribe(TopicSubscriber(proc: ref.proc, target: ref.proc, stop: {}))
    }

    /// Has a process get what is published as messages of its own type, until it ends for good; restarts do not matter.
    ///
    /// Takes the place of another subscription of the process. Costs a process, in whose name the closures run: publishers do
    /// not wait for them, and if one traps, the process does not get that message. `publish` counts what got so far.
    ///
    /// - Parameters:
    ///   - isWanted: Which messages it gets; all by default.
    ///   - make: Makes the process's own message.
    /// - Returns: False if the process has ended for good.
    @discardableResult
    public func subscribe<Own: Sendable>(
        _ ref: ProcRef<Own>,
        where isWanted: @escaping @Sendable (Message) -> Bool = { _ in true },
        _ make: @escaping @Sendable (Message) -> Own
    ) -> Bool {
        guard let system = cell.system, !ref.proc.hasEnded else { return false }
        let relay = Relay<Message>("subscription to \(name)", on: system.relays) { message in
            if isWanted(message) { ref.tell(make(message)) }
        }
        return cell.subscribe(TopicSubscriber(proc: ref.proc, target: relay.proc, stop: { relay.stop() }))
    }

    /// As ``subscribe(_:)``, for messages that satisfy a condition; see ``subscribe(_:where:_:)``.
    @discardableResult
    public func subscribe(_ ref: ProcRef<Message>, where isWanted: @escaping @Sendable (Message) -> Bool) -> Bool {
        subscribe(ref, where: isWanted) { $0 }
    }

    /// Ends the subscription of a process, whichever of its references is given. False if it had none.
    ///
    /// What was published before may still arrive.
    @discardableResult
    public func unsubscribe<Own: Sendable>(_ ref: ProcRef<Own>) -> Bool { cell.unsubscribe(ref.proc) }

    /// How many processes have subscribed.
    public var subscriberCount: Int { cell.subscribers.count }
}

/// By what a topic is found.
struct TopicName: Hashable, Sendable {
    let name: String
    let type: ObjectIdentifier
}

/// One process that has subscribed.
struct TopicSubscriber: Sendable {
    let proc: LightProc
    /// Who gets the messages: the process itself, or a relay.
    let target: LightProc
    /// Ends the relay, which it holds.
    let stop: @Sendable () -> Void
}

/// The subscribers of a topic.
final class TopicCell: Roll {
    private let name: TopicName
    weak let system: BastionSystem?
    private let list = Locked<[TopicSubscriber]>([])

    init(_ name: TopicName, _ system: BastionSystem) {
        self.name = name
        self.system = system
    }

    deinit { system?.topics.forget(name) }

    /// One snapshot; O(1).
    var subscribers: [TopicSubscriber] { list.withLock { $0 } }

    func subscribe(_ subscriber: TopicSubscriber) -> Bool {
        guard let system, !subscriber.proc.hasEnded else {
            subscriber.stop()
            return false
        }
        let former = list.withLock { list -> TopicSubscriber? in
            guard let place = list.firstIndex(where: { $0.proc === subscriber.proc }) else {
                list.append(subscriber)
                return nil
            }
            let former = list[place]
            list[place] = subscriber
            return former
        }
        if let former { former.stop() } else { system.departures.watch(subscriber.proc, for: self) }
        return true
    }

    func unsubscribe(_ proc: LightProc) -> Bool {
        guard remove(proc.id) else { return false }
        system?.departures.unwatch(proc, for: self)
        return true
    }

    func departed(_ id: ProcID) { _ = remove(id) }

    private func remove(_ id: ProcID) -> Bool {
        let removed = list.withLock { list in
            list.firstIndex { $0.proc.id == id }.map { list.remove(at: $0) }
        }
        removed?.stop()
        return removed != nil
    }
}
