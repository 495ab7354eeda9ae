// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import NIOCore

/// The connections that a listener accepted and that are still open.
///
/// Sits in the listener's pipeline, where a read is a new connection. Confined to the listener's event loop.
final class OpenConnections: ChannelInboundHandler {
    typealias InboundIn = any Channel
    typealias InboundOut = any Channel

    private let eventLoop: any EventLoop
    private var channels: [ObjectIdentifier: any Channel] = [:]
    /// Present while stopping: kept when the last connection is closed.
    private var allClosed: EventLoopPromise<Void>?

    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let channel = unwrapInboundIn(data)
        let identifier = ObjectIdentifier(channel)
        channels[identifier] = channel
        let loopBoundSelf = NIOLoopBound(self, eventLoop: eventLoop)
        channel.closeFuture.hop(to: eventLoop).whenComplete { _ in loopBoundSelf.value.closed(identifier) }
        context.fireChannelRead(data)
    }

    /// Ends all connections: each after its next answer, which says so; those without a request for `lingering` then, and those left after
    /// `grace` by force.
    func drain(lingering: TimeAmount, within grace: TimeAmount) -> EventLoopFuture<Void> {
        eventLoop.preconditionInEventLoop()
        if let allClosed { return allClosed.futureResult }
        let promise = eventLoop.makePromise(of: Void.self)
        allClosed = promise
        if channels.isEmpty {
            promise.succeed()
            return promise.futureResult
        }
        tell(DrainingHasBegun())
        let loopBoundSelf = NIOLoopBound(self, eventLoop: eventLoop)
        let quiesce = eventLoop.scheduleTask(in: lingering) { loopBoundSelf.value.tell(ChannelShouldQuiesceEvent()) }
        let force = eventLoop.scheduleTask(in: grace) {
            for channel in loopBoundSelf.value.channels.values { channel.close(promise: nil) }
        }
        promise.futureResult.whenComplete { _ in
            quiesce.cancel()
            force.cancel()
        }
        return promise.futureResult
    }

    private func tell(_ event: some Sendable) {
        for channel in channels.values { channel.pipeline.fireUserInboundEventTriggered(event) }
    }

    private func closed(_ identifier: ObjectIdentifier) {
        channels[identifier] = nil
        if channels.isEmpty { allClosed?.succeed() }
    }
}

/// Tells a connection that its next answer is to be the last.
struct DrainingHasBegun: Sendable {}
