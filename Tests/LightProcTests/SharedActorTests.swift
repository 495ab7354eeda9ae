// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

/// A default actor that processes share: what becomes of it when one of them is over.
@Suite struct SharedActorTests {
    private actor Shop {
        let record: Record<String>
        init(_ record: Record<String>) { self.record = record }

        func visit(_ name: String) { record.note(name) }
    }

    private let scheduler = HandScheduler()
    private let record = Record<String>()

    private func process(_ main: @escaping @Sendable (LightProc) async throws -> Void) -> LightProc {
        let proc = LightProc.async(on: scheduler, main)
        proc.prepare(name: nil, stack: nil, observer: nil, shutdownTime: .seconds(1))
        return proc
    }

    /// Its job runs on after the shutdown time, and then calls a free actor: the actor's turn comes to its executor.
    @Test func anActorGoesOnThatIsCalledByAProcessThatIsOver() {
        let shop = Shop(record)
        let killed = process { [scheduler, record] proc in
            proc.kill()
            // Cancels what is left.
            scheduler.step()
            scheduler.advance(by: .seconds(1))
            #expect(proc.state.isSealed)
            await shop.visit("killed")
            record.note("after")
        }
        killed.restart()
        scheduler.drain()
        #expect(killed.isClosed)
        expectOthersAreServed(by: shop)
    }

    /// The actor's turn is queued when the process is sealed.
    @Test func anActorGoesOnWhoseTurnIsQueuedWhenTheProcessIsSealed() {
        let shop = Shop(record)
        let killed = process { [record] proc in
            proc.kill()
            await shop.visit("killed")
            record.note("after")
        }
        killed.restart()
        // The start, the body, and the order to cancel what is left.
        for _ in 0..<3 { scheduler.step() }
        #expect(killed.state.activations == 1, "the actor's turn")
        scheduler.advance(by: .seconds(1))
        #expect(killed.state.isSealed)
        expectOthersAreServed(by: shop)
        #expect(killed.isClosed)
    }

    /// What waited in the actor's queue is still run there; what comes after it is not.
    private func expectOthersAreServed(by shop: Shop) {
        let innocent = process { _ in await shop.visit("innocent") }
        innocent.restart()
        scheduler.drain()
        #expect(innocent.isClosed)
        #expect(record.events == ["killed", "innocent"])
    }
}
