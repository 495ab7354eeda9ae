// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import NIOHTTP1
import Testing

@testable import ServerFrontEnd

@Suite struct ConnectionStateTests {
    private static func head(keepAlive: Bool = true) -> HTTPRequestHead {
        HTTPRequestHead(
            version: .http1_1,
            method: .GET,
            uri: "/hello",
            headers: keepAlive ? [:] : ["connection": "close"]
        )
    }

    private static func exchange(_ number: UInt64, keepAlive: Bool = true) -> Exchange {
        Exchange(number: number, head: head(keepAlive: keepAlive))
    }

    @Test func requestsOfAConnectionAreServedOneAfterTheOther() {
        var state = ConnectionState(bodyLimit: 10)
        for number in UInt64(1)...3 {
            state.headReceived(Self.head())
            #expect(state.bodyReceived(bytes: 10) == .none)
            #expect(state.endReceived() == .serve(Self.exchange(number)))
            #expect(state.answered(number) == Self.exchange(number))
        }
    }

    @Test func theNextAnswerIsTheLastWhileDraining() {
        var state = ConnectionState(bodyLimit: 10)
        state.headReceived(Self.head())
        _ = state.endReceived()
        state.drain()
        #expect(state.answered(1)?.isKeepAlive == false)
        state.headReceived(Self.head())
        #expect(state.endReceived() == .none)
    }

    @Test func secondAnswerIsDropped() {
        var state = ConnectionState(bodyLimit: 10)
        state.headReceived(Self.head())
        _ = state.endReceived()
        #expect(state.answered(1) != nil)
        #expect(state.answered(1) == nil)
        state.headReceived(Self.head())
        _ = state.endReceived()
        #expect(state.answered(1) == nil)
        #expect(state.answered(2) != nil)
    }

    @Test func bodyBeyondTheLimitIsRefusedOnceAndDrained() {
        var state = ConnectionState(bodyLimit: 10)
        state.headReceived(Self.head())
        #expect(state.bodyReceived(bytes: 10) == .none)
        #expect(state.bodyReceived(bytes: 1) == .refuseBody(Self.exchange(1, keepAlive: true).closing))
        #expect(state.bodyReceived(bytes: 1000) == .none)
        #expect(state.endReceived() == .close)
    }

    @Test func endlessRefusedBodyIsCut() {
        var state = ConnectionState(bodyLimit: 10)
        state.headReceived(Self.head())
        _ = state.bodyReceived(bytes: 11)
        #expect(state.bodyReceived(bytes: 32 << 20) == .close)
        #expect(state.bodyReceived(bytes: 1) == .none)
        #expect(state.endReceived() == .none)
    }

    @Test func idleConnectionIsClosedAndAServedOneIsAnsweredFirst() {
        var idle = ConnectionState(bodyLimit: 10)
        #expect(idle.idledOut() == .close)
        var slowClient = ConnectionState(bodyLimit: 10)
        slowClient.headReceived(Self.head())
        #expect(slowClient.idledOut() == .close)
        var slowService = ConnectionState(bodyLimit: 10)
        slowService.headReceived(Self.head())
        _ = slowService.endReceived()
        #expect(slowService.idledOut() == .answerTimeout(Self.exchange(1).closing))
        #expect(slowService.answered(1) == nil)
    }

    @Test func answerToAClientThatLeftIsDropped() {
        var state = ConnectionState(bodyLimit: 10)
        state.headReceived(Self.head())
        _ = state.endReceived()
        state.connectionClosed()
        #expect(state.answered(1) == nil)
    }
}

extension Exchange {
    fileprivate var closing: Exchange {
        var copy = self
        copy.isKeepAlive = false
        return copy
    }
}
