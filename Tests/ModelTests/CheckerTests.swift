// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// The checker itself, on the litmus tests whose outcomes are known.
    @Suite struct Checker {
        /// Each thread stores its word and loads the other's: with plain x86 stores both may read 0.
        private func storeBuffering(_ ordering: ModelStoreOrdering, _ model: Model) {
            let words = [Word(), Word()]
            var seen = [1, 1]
            for me in 0...1 {
                model.thread {
                    words[me].word.store(1, ordering: ordering)
                    seen[me] = words[1 - me].word.load(ordering: .sequentiallyConsistent)
                }
            }
            model.finally { seen == [0, 0] ? "both read 0" : nil }
        }

        @Test func storesOvertakenByLoadsAreSeen() {
            expectFound("store buffering, releasing") { storeBuffering(.releasing, $0) }
            expectHolds("store buffering", preemptions: 9) { storeBuffering(.sequentiallyConsistent, $0) }
        }

        /// One thread writes memory and then a flag: under TSO the flag is never seen first.
        private func publication(_ ordering: ModelStoreOrdering, _ model: Model) {
            let data = Word()
            let plain = PlainCell()
            let flag = Word()
            model.thread {
                data.word.store(1, ordering: .relaxed)
                plain.write(1)
                flag.word.store(1, ordering: ordering)
            }
            model.thread {
                guard flag.word.load(ordering: .acquiring) == 1 else { return }
                if data.word.load(ordering: .relaxed) != 1 { model.fail("stores changed places") }
                if plain.read() != 1 { model.fail("the memory is not there yet") }
            }
        }

        @Test func publicationNeedsARelease() {
            expectHolds("publication", preemptions: 9) { publication(.releasing, $0) }
            expectFound("publication, relaxed") { publication(.relaxed, $0) }
        }

        @Test func additionsAreCountedAndALostOneIsFound() {
            func adding(_ model: Model) {
                let count = Word()
                for _ in 0..<3 { model.thread { for _ in 0..<2 { count.word.add(1, ordering: .relaxed) } } }
                model.finally { count.word.settled == 6 ? nil : "counted \(count.word.settled)" }
            }
            expectHolds("6 additions by 3 threads", preemptions: 9, adding)
            expectFound("6 additions by 3 threads", .tornUpdates, adding)
        }

        @Test func aThreadThatWaitsForEverIsToldSo() {
            expectFound("wait for a word that nobody stores") { model in
                let word = Word()
                model.thread { if !model.wait(until: { word.word.settled == 2 }) { model.fail("waits for ever") } }
                model.thread { word.word.store(1, ordering: .relaxed) }
            }
            expectHolds("wait for a word that somebody stores") { model in
                let word = Word()
                model.thread { if !model.wait(until: { word.word.settled == 1 }) { model.fail("waits for ever") } }
                model.thread { word.word.store(1, ordering: .relaxed) }
            }
        }

        private final class Word { let word = Atomic<Int>(0) }
    }
}
