// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import LightProc

/// The process object: its size, the room for the body, and its hold on the scheduler.
@Suite struct ProcObjectTests {
    /// A body of so many words, each of which must stay as it was.
    private struct Words<Storage: Sendable & BitwiseCopyable>: ReactiveBody {
        var storage: Storage
        let seen: Record<[UInt]>
        mutating func receive(_ message: consuming Void, on proc: LightProc) {
            seen.note(withUnsafeBytes(of: storage) { Array($0.bindMemory(to: UInt.self)) })
        }
    }

    private struct Plain<Storage: Sendable & BitwiseCopyable>: ReactiveBody {
        var storage: Storage
        mutating func receive(_ message: consuming Void, on proc: LightProc) {}
    }

    /// What the allocator gives such an object: its size, at most 8 bytes more. Where it has a hole that is larger by too little to make a
    /// block of the rest it gives all of that: so the smallest of several that live at the same time counts.
    private func blockSize(_ make: () -> LightProc) -> Int? {
        guard let symbol = dlsym(nil, "malloc_usable_size") else { return nil }
        // safety: malloc.h, which no module covers, declares it so.
        let size = unsafeBitCast(symbol, to: (@convention(c) (UnsafeMutableRawPointer) -> Int).self)
        let procs = (0..<64).map { _ in make() }
        return withExtendedLifetime(procs) { procs.map { size(Unmanaged.passUnretained($0).toOpaque()) }.min() }
    }

    @Test func theObjectIsSmall() {
        let scheduler = HandScheduler()
        #expect(blockSize { LightProc.reactive(Plain(storage: 7), on: scheduler) } == 120)
        #expect(blockSize { LightProc.reactive(Plain(storage: (1, 2, 3, 4, 5)), on: scheduler) } == 184)
        #expect(blockSize { LightProc.async(on: scheduler) { _ in } } == 120)
    }

    @Test func theRoomGoesOnInTheSubclass() throws {
        let proc = LightProc.reactive(Plain(storage: (1, 2, 3, 4, 5)), on: HandScheduler())
        let roomy = try #require(proc as? RoomyProc)
        withExtendedLifetime(roomy) {
            #expect(roomy.more.address == roomy.slot.address + 32)
            #expect(roomy.evenMore.address == roomy.slot.address + 64)
        }
    }

    @Test func bodiesOfAllSizesStayWhole() {
        typealias Four = (UInt, UInt, UInt, UInt)
        let four: Four = (1, 2, 3, 4)
        expectWhole(UInt(1), count: 1)
        expectWhole((UInt(1), UInt(2), UInt(3)), count: 3)
        expectWhole(four, count: 4)
        expectWhole((four, UInt(5), UInt(6)), count: 6)
        expectWhole((four, four, UInt(5), UInt(6), UInt(7)), count: 11)
        expectWhole((four, four, four), count: 12)
        expectWhole((four, four, four, four, four, four, four, four), count: 32)
    }

    private func expectWhole<Storage: Sendable & BitwiseCopyable>(_ storage: Storage, count: Int) {
        let scheduler = HandScheduler()
        let seen = Record<[UInt]>()
        let words = withUnsafeBytes(of: storage) { Array($0.bindMemory(to: UInt.self)) }
        #expect(words.count == count)
        do {
            let proc = LightProc.reactive(Words(storage: storage, seen: seen), on: scheduler)
            for _ in 0..<3 { #expect(proc.push(MessageNode.make(()))) }
            #expect(!proc.isClosed && proc.isReactive && proc.restarts == 0)
            scheduler.drain()
        }
        #expect(seen.events == [words, words, words])
    }

    @Test func aProcessHoldsItsScheduler() {
        weak var watched: HandScheduler?
        var proc: LightProc?
        do {
            let scheduler = HandScheduler()
            watched = scheduler
            proc = LightProc.reactive(Plain(storage: 7), on: scheduler)
        }
        #expect(watched != nil)
        #expect(proc?.scheduler === watched)
        proc = nil
        #expect(watched == nil)
    }
}
