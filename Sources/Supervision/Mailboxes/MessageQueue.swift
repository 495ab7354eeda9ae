// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What lies in the mailbox of a managed process in place of a message: a bell, which says that the queue has one.
struct QueueToken: Sendable {}

/// What has become of the messages of a managed mailbox.
public struct MailboxCounters: Sendable, Hashable {
    /// Messages that wait now, those of the control lane aside.
    public internal(set) var depth = 0
    /// The most that ever waited.
    public internal(set) var peakDepth = 0
    /// Messages that the process took out.
    public internal(set) var taken = 0
    /// Senders that wait for room now.
    public internal(set) var waitingSenders = 0
    /// Messages dropped because the mailbox was full.
    public internal(set) var dropped = 0
    /// Messages dropped because they had waited too long.
    public internal(set) var expired = 0
    /// Messages dropped because the queue's delay was above its target.
    public internal(set) var shed = 0
    /// Asks dropped because nobody waited for their answer any longer.
    public internal(set) var lateAsks = 0
    /// Messages that are set aside as poisonous now.
    public internal(set) var parked = 0
    /// How long the message has waited that waits longest now.
    public internal(set) var queueDelay: Duration = .zero

    mutating func count(_ cause: DropCause) {
        switch cause {
        case .overflow: dropped += 1
        case .expired: expired += 1
        case .shed: shed += 1
        case .lateAsk: lateAsks += 1
        }
    }
}

/// The shell around ``QueueState``: a lock, the process's bell, and what is the user's destroyed where it does no harm.
///
/// One type for all messages: they lie in it as `any Sendable`, and who takes one out knows what it was sent as. Generic over the
/// message it would not be specialised for the types of other modules, and take many times as long.
final class MessageQueue: CompanionPart {
    typealias State = QueueState
    typealias Entry = QueueEntry

    struct Content {
        var state: State
        var counters = MailboxCounters()
        var waiters: [Int: @Sendable (SendOutcome) -> Void] = [:]
        var lastTaken: Duration?
        /// Tokens that were handled, or given up for lost.
        var tokensHandled = 0
        var poison = PoisonTable()
        /// Messages that were set aside as poisonous.
        var parked = Ring<Entry>()
        /// Messages that were dropped, on their way to the process that destroys them.
        var refuse: [Entry] = []
    }

    private let policy: MailboxPolicy
    private let poison: PoisonPolicy?
    private let system: Weak
    let content: Locked<Content>

    /// A system holds its processes' queues by way of its supervisors.
    private struct Weak: Sendable { weak let system: BastionSystem? }

    init(_ policy: MailboxPolicy, poison: PoisonPolicy? = nil, in system: BastionSystem) {
        self.policy = policy
        self.poison = poison
        self.system = Weak(system: system)
        content = Locked(Content(state: State(policy)))
    }

    /// When the message was sent that was taken last; nil if none was.
    var lastTaken: Duration? { content.withLock(\.lastTaken) }

    /// Whether it refuses everything.
    var isClosed: Bool { content.withLock(\.state.isClosed) }

    var counters: MailboxCounters {
        let now = system.system?.executor.now
        return content.withLock { content in
            var counters = content.counters
            counters.depth = content.state.count
            counters.waitingSenders = content.state.waitingSenders
            counters.parked = content.parked.count
            if let now, let oldest = content.state.oldest { counters.queueDelay = max(.zero, now - oldest) }
            return counters
        }
    }

    private func entry(
        _ message: any Sendable,
        _ receipt: Ask?,
        _ lane: MessageLane = .user,
        holding ticket: MessageReceipt? = nil,
        of proc: LightProc
    ) -> Entry {
        // The user's code, so outside the lock. The control lane has no levels.
        let level =
            lane == .control
            ? nil
            : policy.level.map { level in
                min(max(level((message as? AnyMessage)?.payload ?? message), 0), policy.levels - 1)
            }
        return Entry(
            message: message,
            receipt: receipt,
            sent: proc.scheduler.now,
            level: level ?? policy.levels - 1,
            sender: LightProc.current?.id,
            ticket: ticket
        )
    }

    // MARK: Senders

    /// Adds a message, or says why not; an ask has ended then. Any thread.
    func offer(
        _ message: any Sendable,
        receipt: Ask? = nil,
        lane: MessageLane = .user,
        to proc: LightProc
    ) -> SendOutcome {
        // The token comes after the message.
        LightProc.reserveStack()
        let entry = entry(message, receipt, lane, of: proc)
        let (offer, tokens) = content.withLock { content -> (State.Offer, Int) in
            switch lane {
            case .control: return (content.state.offerControl(entry), content.state.tokensToRing())
            case .user: return add(entry, &content)
            }
        }
        return carryOut(offer, tokens, lane, proc)
    }

    /// Does outside of the lock what was decided about a message under it.
    private func carryOut(
        _ offer: State.Offer,
        _ tokens: Int,
        _ lane: MessageLane,
        _ proc: LightProc
    ) -> SendOutcome {
        // What rings no bell is a send like others.
        if tokens == 0 { LightProc.spendReduction() }
        switch offer {
        case .taken: ring(tokens, lane, proc)
        case .takenFor(let oldest):
            ring(tokens, lane, proc)
            drop([(oldest, .overflow)], proc)
        case .dropped(let entry): drop([(entry, .overflow)], proc)
        // Before the message goes, and the reply that is in it, unanswered.
        case .full(let entry):
            entry.receipt?.fail(.full)
            return .full
        case .closed(let entry):
            entry.receipt?.refused(proc.lastExit)
            return .closed
        }
        return .sent
    }

    private func add(_ entry: Entry, _ content: inout Content) -> (State.Offer, Int) {
        let offer = content.state.offer(entry)
        switch offer {
        case .takenFor, .dropped: content.counters.count(.overflow)
        case .taken, .full, .closed: break
        }
        content.counters.peakDepth = max(content.counters.peakDepth, content.state.count)
        return (offer, content.state.tokensToRing())
    }

    /// Adds a message, or lets it wait for room if the policy says so: then `done` is called once, on any thread. An ask that
    /// is not taken has ended.
    ///
    /// - Returns: What became of it, or the number under which it waits.
    func offerOrWait(
        _ message: any Sendable,
        receipt: Ask? = nil,
        holding ticket: MessageReceipt? = nil,
        to proc: LightProc,
        _ done: @escaping @Sendable (SendOutcome) -> Void
    ) -> (outcome: SendOutcome?, number: Int) {
        LightProc.reserveStack()
        let entry = entry(message, receipt, holding: ticket, of: proc)
        let (offer, tokens, number) = content.withLock { content -> (State.Offer, Int, Int) in
            let (offer, tokens) = add(entry, &content)
            guard policy.overflow == .suspend, case .full(let entry) = offer else { return (offer, tokens, 0) }
            let number = content.state.wait(with: entry)
            content.waiters[number] = done
            return (offer, tokens, number)
        }
        if number != 0 { return (nil, number) }
        return (carryOut(offer, tokens, .user, proc), 0)
    }

    /// Adds a notice behind the messages that wait. Any thread.
    func offer(_ notice: Notice, to proc: LightProc) {
        LightProc.reserveStack()
        let tokens = content.withLock { content in
            content.state.offer(notice)
            return content.state.tokensToRing()
        }
        ring(tokens, .user, proc)
    }

    /// Takes back what a sender waits with, and destroys it. False if it was taken, or refused, meanwhile.
    func withdraw(_ number: Int, of proc: LightProc) -> Bool {
        let entry = content.withLock { content in
            content.waiters[number] = nil
            return content.state.withdraw(number)
        }
        guard let entry else { return false }
        destroy([entry], on: proc.scheduler)
        return true
    }

    func ring(_ tokens: Int, _ lane: MessageLane, _ proc: LightProc) {
        for _ in 0..<tokens {
            // Refused when the process is closed: then `closed` comes, and takes what is left here.
            if proc.isReactive {
                let node = MessageNode.make(QueueToken())
                if !proc.push(node, lane: lane) { node.refuse(as: QueueToken.self) }
            } else {
                let node = MessageNode.make(Envelope(message: QueueToken()))
                if !proc.push(node, lane: lane) { node.refuse(as: Envelope.self) }
            }
        }
    }

    // MARK: The process

    /// The message that a token stands for; nil if it was dropped. By the process.
    func take(by proc: LightProc) -> Entry? {
        let now = proc.scheduler.now
        let (take, tokens, admitted) = content.withLock { content in
            content.tokensHandled += 1
            let take = content.state.take(at: now)
            if let entry = take.entry {
                content.counters.taken += 1
                content.lastTaken = entry.sent
            }
            for each in take.dropped { content.counters.count(each.cause) }
            return (
                take, content.state.tokensToRing(),
                take.admitted.compactMap { content.waiters.removeValue(forKey: $0) }
            )
        }
        ring(tokens, .user, proc)
        for done in admitted { done(.sent) }
        if !take.dropped.isEmpty { drop(take.dropped, proc) }
        if let entry = take.entry {
            entry.ticket = nil
            return examine(entry, proc)
        }
        guard let notice = take.notice else { return nil }
        if poison != nil { content.withLock { $0.poison.took(nil) } }
        guard let message = notice.message(for: proc) else { return nil }
        return Entry(message: message, receipt: nil, sent: now, level: 0, sender: nil)
    }

    /// Puts a message where the token that is handled next finds it. By the process, which handles that token at once.
    func putFirst(_ message: any Sendable, at now: Duration) {
        let entry = Entry(message: message, receipt: nil, sent: now, level: policy.levels - 1, sender: nil)
        content.withLock { $0.state.putFirst(entry) }
    }

    // MARK: Poison

    /// The message if it is to be handled; nil if it was dropped or set aside. By the process.
    func examine(_ entry: Entry, _ proc: LightProc) -> Entry? {
        guard let poison else { return entry }
        // One of any type is like others of what it carries.
        let message: any Sendable = (entry.message as? AnyMessage)?.payload ?? entry.message
        let type = type(of: message)
        // The user's code, as the decision: outside the lock.
        let name = poison.key(message) ?? poison.key(entry.message)
        let key = name.map { PoisonTable.Key(type: ObjectIdentifier(type), key: $0) }
        let known = content.withLock { content in
            content.poison.took(nil)
            return key.flatMap { content.poison.failures(of: $0) }
        }
        var verdict = PoisonPolicy.Verdict.handle
        if let key, let known, known.failures >= poison.failures {
            let suspect = PoisonPolicy.Suspect(
                messageType: type,
                key: key.key,
                failures: known.failures,
                lastReason: known.reason,
                process: proc.id
            )
            verdict = poison.decide(suspect)
        }
        switch verdict {
        case .handle:
            content.withLock { $0.poison.took(key) }
            return entry
        case .park:
            let isParked = content.withLock { content in
                guard content.parked.count < PoisonPolicy.parkingSpace else { return false }
                content.parked.append(entry)
                return true
            }
            if !isParked { drop(entry, for: .poisonous, proc) }
        case .deadLetter: drop(entry, for: .poisonous, proc)
        case .stop:
            drop(entry, for: .poisonous, proc)
            proc.stop()
        }
        return nil
    }

    /// The message in hand goes to the stash: it was neither handled nor failed on. By the process.
    func setAside() { content.withLock { $0.poison.ended() } }

    /// Lets messages that were set aside as poisonous be handled after all; returns how many.
    func releaseParked(of proc: LightProc) -> Int {
        let (count, tokens) = content.withLock { content in
            let parked = content.parked.removeAll()
            content.poison = PoisonTable()
            content.state.putBack(parked)
            return (parked.count, content.state.tokensToRing())
        }
        ring(tokens, .user, proc)
        return count
    }

    /// A task that a token was handed to may have been sealed before it saw it: what that stood for is rung for again.
    func starting(_ proc: LightProc, incarnation: UInt32) {
        if proc.isReactive { return }
        let taken = proc.nodesTaken
        let tokens = content.withLock { content in
            content.state.tokensAreLost(taken - content.tokensHandled)
            content.tokensHandled = taken
            return content.state.tokensToRing()
        }
        ring(tokens, .user, proc)
    }

    func endDecided(of proc: LightProc, incarnation: UInt32, reason: ExitReason) {
        guard poison != nil else { return }
        content.withLock { content in
            switch reason {
            case .error, .trap, .deadlineExceeded, .unresponsive: content.poison.failed(reason)
            case .normal, .shutdown, .killed, .linked, .noProcess: content.poison.ended()
            }
        }
    }

    /// Refuses everything from now on if nothing waits, and nobody waits for room. True if it does refuse. Any thread.
    func closeIfEmpty() -> Bool { content.withLock { $0.parked.isEmpty && $0.state.closeIfEmpty() } }

    // MARK: What is not handled

    func closed(_ proc: LightProc?, _ id: ProcID, reason: ExitReason) {
        let (left, waiting, refused) = content.withLock { content in
            let (left, waiting) = content.state.close()
            return (
                left + content.parked.removeAll(), waiting.map(\.entry),
                waiting.compactMap { content.waiters.removeValue(forKey: $0.number) }
            )
        }
        for entry in waiting { entry.receipt?.refused(reason) }
        for done in refused { done(.closed) }
        guard let system = system.system, !left.isEmpty || !waiting.isEmpty else { return }
        for entry in left {
            entry.receipt?.processEnded(reason)
            system.deadLetter(DeadLetter(of: entry.message, to: id, proc?.name, from: entry.sender, .closed))
        }
        destroy(left + waiting, on: system.executor)
    }

    /// A message is not handled, for a reason that was found after it was taken. By the process.
    func drop(_ entry: Entry, for reason: DeadLetter.Reason, _ proc: LightProc) {
        entry.receipt?.fail(.dropped)
        system.system?.deadLetter(
            DeadLetter(of: entry.message, to: proc.id, proc.name, from: entry.sender, reason)
        )
    }

    private func drop(_ dropped: [(entry: Entry, cause: DropCause)], _ proc: LightProc) {
        for (entry, cause) in dropped {
            entry.receipt?.fail(.dropped)
            guard cause != .lateAsk else { continue }
            let reason: DeadLetter.Reason =
                switch cause {
                case .overflow, .lateAsk: .overflow
                case .expired: .expired
                case .shed: .shed
                }
            system.system?.deadLetter(
                DeadLetter(of: entry.message, to: proc.id, proc.name, from: entry.sender, reason)
            )
        }
        destroy(dropped.map(\.entry), on: proc.scheduler)
    }

    /// Whether nothing happens when a message is destroyed.
    private static func isTrivial(_ message: any Sendable) -> Bool {
        func open<Actual>(_ actual: Actual) -> Bool { _isPOD(Actual.self) }
        return _openExistential(message, do: open)
    }

    /// Destroys messages in a process of its own, as their `deinit` may trap: many with one.
    private func destroy(_ entries: [Entry], on scheduler: any ProcScheduler) {
        let entries = entries.filter { !Self.isTrivial($0.message) }
        if entries.isEmpty { return }
        let isFirst = content.withLock { content in
            content.refuse += entries
            return content.refuse.count == entries.count
        }
        guard isFirst else { return }
        LightProc.runOnce(on: scheduler) { [self] in
            let all = content.withLock { content in
                defer { content.refuse = [] }
                return content.refuse
            }
            _ = all
        }
    }
}
