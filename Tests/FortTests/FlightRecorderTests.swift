// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc
import LightProc
import Synchronization
import Testing

@testable import Fort

/// The ring of events in a record, which any thread writes and whoever likes reads.
@Suite struct FlightRecorderTests {
    private let record = ProcessRecord.unshared()!

    /// The ticket of a place: the first word of an event, which Swift does not see as it is atomic.
    private func setTicket(_ ticket: UInt64, at place: Int) {
        let start = UnsafeMutableRawPointer(record.pointer) + ProcessRecord.byteCount - 256 * 128
        (start + place * 128).storeBytes(of: ticket, as: UInt64.self)
    }

    @Test func theLayoutIsWhatTheTestsTakeItFor() {
        #expect(MemoryLayout<fort_event>.stride == 128)
        #expect(Int(fort_eventCount) == 256)
        record.note("first")
        let start = UnsafeRawPointer(record.pointer) + ProcessRecord.byteCount - 256 * 128
        #expect(start.load(as: UInt64.self) == 1)
        record.unmap()
    }

    @Test func theLastEventsAreKept() {
        #expect(record.events == [])
        for number in 1...300 { record.note("event \(number)") }
        #expect(record.events.map(\.number) == (45...300).map(UInt64.init))
        #expect(record.events.map(\.text) == (45...300).map { "event \($0)" })
        #expect(record.events.allSatisfy { $0.time > WallTime(nanoseconds: 1_700_000_000_000_000_000) })
        record.unmap()
    }

    @Test(arguments: [
        ("", ""), (String(repeating: "x", count: 111), String(repeating: "x", count: 111)),
        (String(repeating: "x", count: 112), String(repeating: "x", count: 111)),
        (String(repeating: "x", count: 110) + "ü", String(repeating: "x", count: 110)),
        (String(repeating: "x", count: 109) + "ü", String(repeating: "x", count: 109) + "ü"),
        (String(repeating: "🙂", count: 40), String(repeating: "🙂", count: 27)),
    ])
    func aLongTextIsCutAtACharacter(_ text: String, _ kept: String) {
        record.note(text)
        #expect(record.events.map(\.text) == [kept])
        record.unmap()
    }

    @Test func whatWasBeingWrittenIsLeftOut() {
        for number in 1...256 { record.note("event \(number)") }
        // The writers of these were stopped in the middle of it: one for good, one that was overtaken by all the others.
        setTicket(0, at: 9)
        setTicket(12, at: 20)
        let numbers = record.events.map(\.number)
        #expect(numbers == (1...256).filter { $0 != 10 && $0 != 21 })
        // Who comes to the place of the first leaves it alone; the second has given its place back.
        for number in 257...512 { record.note("event \(number)") }
        let later = record.events.map(\.number)
        #expect(later == (257...512).filter { $0 != 266 })
        record.unmap()
    }

    @Test func whoWasOvertakenLeavesTheYoungerEvent() {
        record.note("first")
        setTicket(513, at: 1)
        record.note("second")
        #expect(record.events.map(\.text) == ["first"])
        record.unmap()
    }

    @Test func eventsOfManyThreadsAreWhole() {
        let writers = 4
        let rounds = 5000
        let left = Atomic<Int>(writers)
        let record = record
        withExtendedLifetime(record) {
            let threads = (0..<writers).map { writer in
                PlainThread(name: "writer") {
                    for round in 0..<rounds {
                        let letter = UInt8(ascii: "a") + UInt8((round + writer * 7) % 26)
                        record.note(
                            String(decoding: repeatElement(letter, count: 20 + (round + writer) % 92), as: UTF8.self)
                        )
                    }
                    // ordering: sequentiallyConsistent: rare.
                    left.subtract(1, ordering: .sequentiallyConsistent)
                }
            }
            var seen = 0
            var last: UInt64 = 0
            while left.load(ordering: .sequentiallyConsistent) > 0 || seen == 0 {
                for event in record.events {
                    seen += 1
                    last = max(last, event.number)
                    let isWhole = (20..<112).contains(event.text.utf8.count) && Set(event.text.utf8).count == 1
                    if !isWhole { Issue.record("torn: \(event)") }
                }
            }
            for thread in threads { thread.join() }
            #expect(last <= UInt64(writers * rounds))
            #expect(fort_countOfEvents(record.pointer) == UInt64(writers * rounds))
        }
        record.unmap()
    }

    @Test func stagesAndLastWordsAreInTheRecord() {
        record.begin(program: "shop")
        #expect(record.isValid)
        #expect(record.hasBegun)
        record.enter(.ready)
        record.enter(.stopping)
        record.leave(String(repeating: "ü", count: 200))
        record.count(traps: 3, leaked: 100)
        record.count(traps: 2, leaked: 90)
        let life = LifeRecord(record)
        #expect(life.program == "shop")
        #expect(life.pid == getpid())
        #expect(life.incarnation == 1)
        #expect(life.stage == "stopping")
        #expect(life.lastWords == String(repeating: "ü", count: 127))
        #expect((life.trapsContained, life.bytesLeaked) == (3, 100))
        #expect(life.death == nil)
        #expect(life.events.prefix(2).map(\.text) == ["the program is ready", "the program is stopping"])
        // The executable, and the C library.
        #expect(life.modules.contains { $0.path == ProcessRecord.executable })
        #expect(life.modules.contains { $0.path.contains("libc.so") })
        record.unmap()
    }

    @Test func aRecordOfAnotherLayoutIsNone() {
        record.begin(program: "shop")
        // What a guard may have put into it is no beginning.
        record.pointer.pointee.moduleCount = 0
        #expect(record.isValid && !record.hasBegun)
        record.pointer.pointee.version = 99
        #expect(!record.isValid)
        record.unmap()
    }

    @Test func processesAreRecalledByNumber() {
        func recall(_ number: UInt64) -> String {
            var text = [CChar](repeating: 1, count: Int(fort_processTextSize))
            fort_recallProcess(number, &text)
            return ProcessRecord.text(text, text.count)
        }
        // Numbers that no process of this test program has.
        let base: UInt64 = 1 << 40
        #expect(recall(base) == "")
        fort_rememberProcess(base, "/shop/orders-3", 14)
        #expect(recall(base) == "/shop/orders-3")
        #expect(recall(base + 4096) == "")
        let long = String(repeating: "x", count: 300)
        fort_rememberProcess(base + 4096, long, 300)
        #expect(recall(base + 4096) == String(repeating: "x", count: 119))
        #expect(recall(base) == "")
    }
}
