// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Synchronization
import TestSupport
import Testing

@testable import Executor

/// Processes of both kinds on real workers, under more traffic than is good for them: what the mailbox's own tests ask of the
/// queue, asked of the process. Everything sent is handled once, in the order of its sender, by one thread at a time.
@Suite struct ProcessTrafficTests {
    enum Kind: CaseIterable {
        case reactive
        case async
    }

    @Test(arguments: Kind.allCases)
    func smoke(_ kind: Kind) async throws {
        let pool = try WorkerPool(workers: 1)
        let (proc, notes) = Reader.make(kind, on: pool, senders: 1)
        for number in 0..<3 { #expect(proc.send(Reader.Letter(sender: 0, number: number))) }
        proc.send(Reader.Letter.last)
        #expect(await exit(of: proc).description == "normal")
        await pool.shutDownElsewhere()
        notes.expectAll(senders: 1, each: 3)
        #expect(proc.isClosed)
        #expect(!proc.send(Reader.Letter(sender: 0, number: 3)))
    }

    /// The sender is a process of the same pool, or a thread outside.
    @Test(arguments: Kind.allCases, [true, false])
    func spsc(_ kind: Kind, isProcess: Bool) async throws {
        let pool = try WorkerPool(workers: 2)
        let count = 20_000 * RandomRun.scale
        let (proc, notes) = Reader.make(kind, on: pool, senders: 1)
        let send: @Sendable () -> Void = {
            for number in 0..<count { proc.send(Reader.Letter(sender: 0, number: number)) }
            proc.send(Reader.Letter.last)
        }
        if isProcess {
            LightProc.reactive(Doer(), on: pool).tell { _ in send() }
        } else {
            PlainThread(name: "sender", send).join()
        }
        #expect(await exit(of: proc).description == "normal")
        await pool.shutDownElsewhere()
        notes.expectAll(senders: 1, each: count)
    }

    /// Many senders at once, half of them processes.
    @Test(arguments: Kind.allCases)
    func stampede(_ kind: Kind) async throws {
        let pool = try WorkerPool(workers: 2)
        let (senders, each) = (8, 2_500 * RandomRun.scale)
        let (proc, notes) = Reader.make(kind, on: pool, senders: senders)
        let send: @Sendable (Int) -> Void = { sender in
            for number in 0..<each { proc.send(Reader.Letter(sender: sender, number: number)) }
            proc.send(Reader.Letter.last)
        }
        for sender in senders / 2..<senders { LightProc.reactive(Doer(), on: pool).tell { _ in send(sender) } }
        let threads = (0..<senders / 2).map { sender in PlainThread(name: "sender") { send(sender) } }
        for thread in threads { thread.join() }
        #expect(await exit(of: proc).description == "normal")
        await pool.shutDownElsewhere()
        notes.expectAll(senders: senders, each: each)
    }

    /// Processes that come and go: each letter makes its reader write the next one, to anybody, so that most mailboxes
    /// are idle most of the time, and every process is woken by many.
    @Test(arguments: Kind.allCases)
    func stress(_ kind: Kind) async throws {
        let pool = try WorkerPool(workers: 2)
        let (count, chains, hops) = (12, 24, 500 * RandomRun.scale)
        print("SEED=\(RandomRun.seed) SCALE=\(RandomRun.scale)")
        let done = AsyncGate()
        let book = AddressBook(count: count, lettersToCome: chains * (hops + 1)) { done.open() }
        for number in 0..<count {
            book.add(Writer.make(kind, number: number, in: book, seed: RandomRun.seed, on: pool))
        }
        for chain in 0..<chains { book.post(hops: hops, from: nil, to: chain % count) }
        await done.wait()
        for proc in book.everybody {
            proc.stop()
            #expect(await exit(of: proc).description == "shutdown")
        }
        await pool.shutDownElsewhere()
        #expect(book.lettersToCome == 0)
        #expect(book.complaints == [])
        book.forget()
    }

    /// One worker, a process that is flooded by many senders, and two that talk only to each other: all get their turns.
    @Test(arguments: Kind.allCases)
    func noStarvation(_ kind: Kind) async throws {
        // Nobody stands in for the worker, however long it waits for the beginning.
        let pool = try WorkerPool(workers: 1, stallThreshold: nil)
        let (senders, each, hops) = (4, 5_000, 40_000)
        let (flooded, notes) = Reader.make(kind, on: pool, senders: senders)
        // The worker is kept busy until everything is in place: from then on what happens is the same every time.
        let (isBusy, isReady) = (AsyncGate(), BlockingGate())
        LightProc.reactive(Doer(), on: pool).tell { _ in
            isBusy.open()
            isReady.blockingWait()
        }
        await isBusy.wait()
        let threads = (0..<senders).map { sender in
            PlainThread(name: "sender") {
                for number in 0..<each { flooded.send(Reader.Letter(sender: sender, number: number)) }
                flooded.send(Reader.Letter.last)
            }
        }
        for thread in threads { thread.join() }
        let turns = Turns()
        let pair = (LightProc.reactive(Doer(), on: pool), LightProc.reactive(Doer(), on: pool))
        let handled: @Sendable () -> Int = { notes.count }
        @Sendable func serve(_ me: LightProc, _ other: LightProc, _ left: Int) {
            me.tell { _ in
                turns.hop(handled())
                if left > 0 { serve(other, me, left - 1) }
            }
        }
        serve(pair.0, pair.1, hops)
        isReady.open()
        #expect(await exit(of: flooded).description == "normal")
        await pool.shutDownElsewhere()
        notes.expectAll(senders: senders, each: each)
        // A run is 256 messages. Two of them between two turns of the pair would be one more than there need be.
        let (longestWait, hopsMeanwhile) = (turns.longestWait, turns.hopsUntil(senders * each))
        #expect(longestWait <= 2 * 256, "the two waited for \(longestWait) messages of the flood")
        // The flood takes about 80 runs, each after at most 64 turns of the pair.
        let runs = senders * each / 256 + 1
        #expect(hopsMeanwhile <= (runs + 2) * 2 * 64, "the flood waited for \(hopsMeanwhile) turns of the two")
        #expect(hopsMeanwhile >= runs / 2, "the two had only \(hopsMeanwhile) turns in \(runs) runs of the flood")
    }

    enum Ending: CaseIterable {
        case finish
        case stop
        case kill
        case error
    }

    /// Messages are sent while the process ends: handled, left or refused, each is destroyed once, and so is the body.
    @Test(arguments: Kind.allCases, Ending.allCases)
    func destructors(_ kind: Kind, _ ending: Ending) async throws {
        let pool = try WorkerPool(workers: 2)
        let (rounds, senders, each) = (20 * RandomRun.scale, 3, 100)
        let tally = Tally()
        for round in 0..<rounds {
            let proc = Hoarder.make(kind, tally, on: pool)
            let start = Rendezvous(senders)
            let threads = (0..<senders).map { sender in
                PlainThread(name: "sender") {
                    start.arrive()
                    start.everybody.blockingWait()
                    for number in 0..<each {
                        if sender == 0, number == round * 4 % each {
                            switch ending {
                            case .finish: proc.send(Hoarder.Message.end(nil))
                            case .error: proc.send(Hoarder.Message.end(Boom()))
                            case .stop: proc.stop()
                            case .kill: proc.kill()
                            }
                        }
                        proc.send(Hoarder.Message.cargo(Cargo(tally)))
                    }
                }
            }
            for thread in threads { thread.join() }
            _ = await exit(of: proc)
        }
        // Also joins what gets rid of left messages.
        await pool.shutDownElsewhere()
        #expect(tally.made == rounds * (senders * each + 1))
        #expect(tally.destroyed == tally.made)
    }
}

// ordering: sequentiallyConsistent in all that follows: tests are not in a hurry.

/// Reads letters, checks their order, and finishes when every sender has said that it was the last.
private struct Reader: ReactiveBody {
    struct Letter: Sendable {
        let sender: Int
        let number: Int
        static let last = Letter(sender: -1, number: 0)
    }

    final class Notes: Sendable {
        fileprivate let next: Locked<[Int]>
        fileprivate let disorder = Locked<String?>(nil)
        private let handled = Atomic<Int>(0)
        init(senders: Int) { next = Locked([Int](repeating: 0, count: senders)) }
        var count: Int { handled.load(ordering: .sequentiallyConsistent) }
        func countOne() { handled.add(1, ordering: .sequentiallyConsistent) }

        func expectAll(senders: Int, each: Int) {
            #expect(disorder.withLock { $0 } == nil)
            #expect(next.withLock { $0 } == [Int](repeating: each, count: senders))
        }
    }

    private let notes: Notes
    /// Not locked, as the state of a process need not be: two threads at a time would lose some.
    private var next: [Int]
    private var sendersLeft: Int

    static func make(_ kind: ProcessTrafficTests.Kind, on pool: WorkerPool, senders: Int) -> (LightProc, Notes) {
        let notes = Notes(senders: senders)
        switch kind {
        case .reactive: return (LightProc.reactive(Reader(notes, senders), on: pool), notes)
        case .async:
            let proc = LightProc.start(of: Letter.self, on: pool) { proc in
                var reader = Reader(notes, senders)
                while let node = await proc.receiveNode() {
                    if reader.read(node.open(as: Letter.self).message) { return }
                }
            }
            return (proc, notes)
        }
    }

    private init(_ notes: Notes, _ senders: Int) {
        self.notes = notes
        next = [Int](repeating: 0, count: senders)
        sendersLeft = senders
    }

    mutating func receive(_ message: consuming Letter, on proc: LightProc) { if read(message) { proc.finish() } }

    /// Whether that was all.
    mutating func read(_ message: Letter) -> Bool {
        if message.sender < 0 {
            sendersLeft -= 1
            if sendersLeft == 0 { notes.next.withLock { [next] in $0 = next } }
            return sendersLeft == 0
        }
        if message.number != next[message.sender] {
            let text = "sender \(message.sender): \(message.number) where \(next[message.sender]) was due"
            notes.disorder.withLock { $0 = $0 ?? text }
        }
        next[message.sender] += 1
        notes.countOne()
        return false
    }
}

/// Who the writers of `stress` are, and what went wrong.
private final class AddressBook: Sendable {
    private let procs = Locked<[LightProc]>([])
    private let toCome: Atomic<Int>
    private let wrong = Locked<[String]>([])
    private let whenDone: @Sendable () -> Void
    let count: Int

    init(count: Int, lettersToCome: Int, _ whenDone: @escaping @Sendable () -> Void) {
        self.count = count
        toCome = Atomic(lettersToCome)
        self.whenDone = whenDone
    }

    var lettersToCome: Int { toCome.load(ordering: .sequentiallyConsistent) }
    var complaints: [String] { wrong.withLock { $0 } }
    func add(_ proc: LightProc) { procs.withLock { $0.append(proc) } }
    var everybody: [LightProc] { procs.withLock { $0 } }
    func forget() { procs.withLock { $0 = [] } }
    func complain(_ text: String) { wrong.withLock { $0.append(text) } }

    func post(hops: Int, from sender: (number: Int, count: Int)?, to receiver: Int) {
        let proc = procs.withLock { $0[receiver] }
        let letter = Writer.Letter(hops: hops, sender: sender?.number, number: sender?.count ?? 0)
        if !proc.send(letter) { complain("\(receiver) is closed") }
    }

    func arrived() { if toCome.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 { whenDone() } }
}

/// Answers every letter by one to anybody.
private struct Writer: ReactiveBody {
    struct Letter: Sendable {
        let hops: Int
        /// Nil: from outside.
        let sender: Int?
        let number: Int
    }

    private let number: Int
    private let book: AddressBook
    private var random: SeededGenerator
    private var sent: [Int]
    private var received: [Int]

    init(number: Int, in book: AddressBook, seed: UInt64) {
        self.number = number
        self.book = book
        random = SeededGenerator(seed: seed &+ UInt64(number))
        sent = [Int](repeating: 0, count: book.count)
        received = sent
    }

    static func make(
        _ kind: ProcessTrafficTests.Kind,
        number: Int,
        in book: AddressBook,
        seed: UInt64,
        on pool: WorkerPool
    ) -> LightProc {
        switch kind {
        case .reactive: LightProc.reactive(Writer(number: number, in: book, seed: seed), on: pool)
        case .async:
            LightProc.start(of: Letter.self, on: pool) { proc in
                var writer = Writer(number: number, in: book, seed: seed)
                while let node = await proc.receiveNode() { writer.read(node.open(as: Letter.self).message) }
            }
        }
    }

    mutating func receive(_ message: consuming Letter, on proc: LightProc) { read(message) }

    private mutating func read(_ message: Letter) {
        if let sender = message.sender {
            if message.number != received[sender] { book.complain("\(number) got \(message) at \(received[sender])") }
            received[sender] += 1
        }
        if message.hops > 0 {
            let receiver = Int.random(in: 0..<book.count, using: &random)
            book.post(hops: message.hops - 1, from: (number, sent[receiver]), to: receiver)
            sent[receiver] += 1
        }
        book.arrived()
    }
}

/// When two processes had their turns, in messages that a third had handled by then.
private final class Turns: Sendable {
    private let times = Locked<[Int]>([])
    func hop(_ time: Int) { times.withLock { $0.append(time) } }
    var longestWait: Int { times.withLock { times in zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? 0 } }
    func hopsUntil(_ time: Int) -> Int { times.withLock { $0.filter { $0 < time }.count } }
}

private final class Tally: Sendable {
    private let makings = Atomic<Int>(0)
    private let destructions = Atomic<Int>(0)
    var made: Int { makings.load(ordering: .sequentiallyConsistent) }
    var destroyed: Int { destructions.load(ordering: .sequentiallyConsistent) }
    func countMade() { makings.add(1, ordering: .sequentiallyConsistent) }
    func countDestroyed() { destructions.add(1, ordering: .sequentiallyConsistent) }
}

/// Counts how often it is made and destroyed.
private final class Cargo: Sendable {
    private let tally: Tally
    init(_ tally: Tally) {
        self.tally = tally
        tally.countMade()
    }
    deinit { tally.countDestroyed() }
}

/// Owns something, and drops what it gets.
private struct Hoarder: ReactiveBody {
    enum Message: Sendable {
        case cargo(Cargo)
        case end(Boom?)
    }
    private let own: Cargo
    init(_ tally: Tally) { own = Cargo(tally) }

    static func make(_ kind: ProcessTrafficTests.Kind, _ tally: Tally, on pool: WorkerPool) -> LightProc {
        switch kind {
        case .reactive: LightProc.reactive(Hoarder(tally), on: pool)
        case .async:
            startAsync(Hoarder(tally), on: pool)
        }
    }

    private static func startAsync(_ hoarder: Hoarder, on pool: WorkerPool) -> LightProc {
        LightProc.start(of: Message.self, on: pool) { proc in
            while let node = await proc.receiveNode() {
                if try hoarder.isOver(node.open(as: Message.self).message) { return }
            }
        }
    }

    mutating func receive(_ message: consuming Message, on proc: LightProc) throws {
        if try isOver(message) { proc.finish() }
    }

    private func isOver(_ message: Message) throws -> Bool {
        guard case .end(let error) = message else { return false }
        if let error { throw error }
        return true
    }
}

extension LightProc {
    /// Starts an async process that has more time to unwind than it ever needs.
    fileprivate static func start<Message: Sendable>(
        of messages: Message.Type,
        on pool: WorkerPool,
        _ main: nonisolated(nonsending) @escaping @Sendable (LightProc) async throws -> Void
    ) -> LightProc {
        let proc = LightProc.async(on: pool, main)
        proc.declareMessages(of: messages)
        proc.prepare(name: nil, stack: nil, observer: nil, shutdownTime: .seconds(60))
        proc.restart()
        return proc
    }
}
