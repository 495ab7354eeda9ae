// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import Synchronization

/// A middleware server: clients send blocks over TCP, workers pack them, and who waits for a worker holds its client up.
///
/// Around each worker's handler stand a measurement, a deadline and a second try; a block that makes it trap ends that worker.
@main
struct Packing: FortProgram {
    static let intensity = RestartIntensity(0, within: .seconds(1))
    private static let clients = 8
    private static let blocks = 40

    func run(in context: Context) async throws {
        let figures = Figures()
        let tree = try context.supervise(intensity: .unlimited) {
            Children("packer", Packer(figures: figures), redundancy: 10)
                .mailbox(.bounded(4))
                .middleware(.measuring { _, _, outcome in figures.note(outcome) }, .deadline(.seconds(5)), .retry(1))
                .distributor("packers", .leastLoaded)
        }
        let packers = Distributor<Packer.Message>("packers", in: context.system)
        let (listener, port) = try Socket.listen()
        context.own(fileDescriptor: listener)
        // One process a connection: natural back-pressure, as it reads the next block when the last one is packed.
        let server = try context.supervise("server") {
            Children("connection", redundancy: Self.clients, restart: .temporary) { context in
                let socket = try await context.blocking { try Socket.accept(listener) }
                context.own(fileDescriptor: socket)
                while let block = try await context.blocking({ try Socket.receive(socket) }) {
                    let packed = (try? await packers.askOne { .pack(block, $0) }) ?? []
                    try await context.blocking { try Socket.send(packed, to: socket) }
                }
            }
        }
        // The clients: every tenth block is one that makes the packer trap, which costs an answer and nothing else.
        let answers = try await withThrowingTaskGroup(of: (right: Int, lost: Int).self) { group in
            for client in 0..<Self.clients {
                group.addTask { try await context.blocking { try Self.talk(client, to: port) } }
            }
            return try await group.reduce(into: (right: 0, lost: 0)) { sum, each in
                sum.right += each.right
                sum.lost += each.lost
            }
        }
        await server.stop()
        await tree.stop()
        let all = Self.clients * Self.blocks
        print(
            "\(answers.right) blocks packed, \(answers.lost) lost to traps, \(figures.retried) packed at the second try"
        )
        guard answers.lost == all / 10, answers.right == all - answers.lost, figures.retried > 0 else {
            throw WrongResult("of \(all) blocks")
        }
        guard figures.handled == answers.right else { throw WrongResult("the measurement saw \(figures.handled)") }
    }

    private static func talk(_ client: Int, to port: UInt16) throws -> (right: Int, lost: Int) {
        let socket = try Socket.connect(port)
        defer { close(socket) }
        var (right, lost) = (0, 0)
        for number in 0..<blocks {
            let block: [UInt8] = number % 10 == 9 ? [] : Array(repeating: UInt8(client), count: 1 + number)
            try Socket.send(block, to: socket)
            let packed = try Socket.receive(socket)
            if packed == [UInt8(1 + number), UInt8(client)], !block.isEmpty { right += 1 }
            if packed == [], block.isEmpty { lost += 1 }
        }
        return (right, lost)
    }
}

/// Packs blocks by run lengths. Its first try of every seventh fails, as a flaky device would.
struct Packer: Reactive {
    enum Message: Sendable { case pack([UInt8], Reply<[UInt8]>) }
    let figures: Figures
    var tries = 0

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
        guard case .pack(let block, let reply) = message else { return }
        tries += 1
        if tries % 7 == 0 {
            figures.noteRetry()
            throw Flaky()
        }
        // An empty block has no first byte: a trap.
        reply([UInt8(block.count), block[0]])
    }
}

struct Flaky: Error {}

/// What the middleware has measured.
final class Figures: Sendable {
    private let handledCount = Atomic(0)
    private let retriedCount = Atomic(0)
    var handled: Int { handledCount.load(ordering: .relaxed) }
    var retried: Int { retriedCount.load(ordering: .relaxed) }
    func note(_ outcome: Middleware.Outcome) {
        if case .handled = outcome { handledCount.wrappingAdd(1, ordering: .relaxed) }
    }
    func noteRetry() { retriedCount.wrappingAdd(1, ordering: .relaxed) }
}

struct WrongResult: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = "wrong: \(description)" }
}
