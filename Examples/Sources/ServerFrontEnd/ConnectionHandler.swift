// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import NIOCore
import NIOHTTP1
import ServerRoutes

/// The end of a connection's pipeline: performs what ``ConnectionState`` decides.
///
/// Confined to the connection's event loop. It runs where a trap is not contained, so it only copies and compares.
final class ConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let service: any RequestService
    private var state: ConnectionState

    private init(service: any RequestService, bodyLimit: Int) {
        self.service = service
        state = ConnectionState(bodyLimit: bodyLimit)
    }

    /// Sets up the pipeline of a new connection. To be called on its event loop.
    static func configure(
        _ channel: any Channel,
        service: any RequestService,
        configuration: HTTPServer.Configuration
    ) throws {
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(IdleStateHandler(allTimeout: configuration.idleTimeout))
        try pipeline.configureHTTPServerPipeline(withPipeliningAssistance: true, withErrorHandling: true)
        try pipeline.addHandler(ConnectionHandler(service: service, bodyLimit: configuration.bodyLimit))
    }

    // MARK: Events

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            state.headReceived(head)
        case .body(let body):
            perform(state.bodyReceived(bytes: body.readableBytes), context: context)
        case .end:
            perform(state.endReceived(), context: context)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent {
            perform(state.idledOut(), context: context)
        } else if event is DrainingHasBegun {
            state.drain()
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        state.connectionClosed()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A malformed request is answered with a 400 by the handler before this one, which then passes the error on.
        state.connectionClosed()
        context.close(promise: nil)
    }

    // MARK: Actions

    private func perform(_ action: ConnectionState.Action, context: ChannelHandlerContext) {
        switch action {
        case .none:
            break
        case .serve(let exchange):
            serve(exchange, context: context)
        case .refuseBody(let exchange):
            write(.problem(.bodyTooLarge, path: exchange.target), to: exchange, context: context, promise: nil)
        case .answerTimeout(let exchange):
            writeLast(.timedOut(path: exchange.target), to: exchange, context: context)
        case .close:
            context.close(promise: nil)
        }
    }

    private func serve(_ exchange: Exchange, context: ChannelHandlerContext) {
        let request: Request
        do {
            request = try Request(method: Request.Method(exchange.method.rawValue), target: exchange.target)
        } catch {
            answer(exchange.number, with: .problem(error, path: exchange.target), context: context)
            return
        }
        if request.path == Route.statisticsPath {
            answer(exchange.number, with: statistics(for: request), context: context)
            return
        }
        let eventLoop = context.eventLoop
        let loopBound = NIOLoopBound((handler: self, context: context), eventLoop: eventLoop)
        service.handle(request) { response in
            eventLoop.execute {
                let (handler, context) = loopBound.value
                handler.answer(exchange.number, with: response, context: context)
            }
        }
    }

    private func statistics(for request: Request) -> Response {
        guard request.method == .get || request.method == .head else {
            return .problem(.methodNotAllowed, path: request.path)
        }
        return .statistics(service.statistics(), of: .current())
    }

    private func answer(_ number: UInt64, with response: Response, context: ChannelHandlerContext) {
        guard let exchange = state.answered(number) else { return }
        if exchange.isKeepAlive {
            write(response, to: exchange, context: context, promise: nil)
        } else {
            writeLast(response, to: exchange, context: context)
        }
    }

    /// Writes an answer and closes the connection when it is out.
    private func writeLast(_ response: Response, to exchange: Exchange, context: ChannelHandlerContext) {
        let written = context.eventLoop.makePromise(of: Void.self)
        let loopBoundContext = context.loopBound
        written.futureResult.whenComplete { _ in loopBoundContext.value.close(promise: nil) }
        write(response, to: exchange, context: context, promise: written)
    }

    private func write(
        _ response: Response,
        to exchange: Exchange,
        context: ChannelHandlerContext,
        promise: EventLoopPromise<Void>?
    ) {
        let body = context.channel.allocator.buffer(string: response.body)
        var headers = HTTPHeaders()
        headers.reserveCapacity(5)
        headers.add(name: "content-type", value: response.contentType)
        headers.add(name: "content-length", value: String(body.readableBytes))
        if let requestID = exchange.requestID { headers.add(name: "x-request-id", value: requestID) }
        // RFC 9110, section 15.5.6: the answer must say which methods are allowed.
        if response.status == 405 { headers.add(name: "allow", value: "GET, HEAD") }
        headers.add(name: "connection", value: exchange.isKeepAlive ? "keep-alive" : "close")
        let head = HTTPResponseHead(
            version: .http1_1,
            status: HTTPResponseStatus(statusCode: response.status),
            headers: headers
        )
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if exchange.method != .HEAD {
            context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
    }
}
