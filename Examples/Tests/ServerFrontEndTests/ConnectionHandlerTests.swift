// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import NIOCore
import NIOEmbedded
import NIOHTTP1
import ServerRoutes
import Testing

@testable import ServerFrontEnd

@Suite struct ConnectionHandlerTests {
    /// A connection whose service answers with the path, at once.
    private struct Connection {
        let channel = EmbeddedChannel()

        init(service: some RequestService = EchoService()) throws {
            try ConnectionHandler.configure(channel, service: service, configuration: HTTPServer.Configuration())
            try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        }

        /// Sends bytes and returns everything that came back.
        func send(_ text: String) throws -> String {
            try channel.writeInbound(ByteBuffer(string: text))
            return try received()
        }

        /// What the idle handler does at its timeout; it reads a clock that a test cannot turn.
        func idle() {
            channel.pipeline.fireUserInboundEventTriggered(IdleStateHandler.IdleStateEvent.all)
        }

        func received() throws -> String {
            channel.embeddedEventLoop.run()
            var text = ""
            while let part = try channel.readOutbound(as: ByteBuffer.self) { text += String(buffer: part) }
            return text
        }
    }

    private struct EchoService: RequestService {
        func handle(_ request: Request, completion: @escaping @Sendable (Response) -> Void) {
            completion(Response(status: 200, contentType: "text/plain", body: request.path))
        }
        func statistics() -> ServiceStatistics { ServiceStatistics(requests: 1, trapsContained: 2, restarts: 3) }
    }

    private struct SilentService: RequestService {
        func handle(_ request: Request, completion: @escaping @Sendable (Response) -> Void) {}
        func statistics() -> ServiceStatistics { ServiceStatistics(requests: 0, trapsContained: 0, restarts: 0) }
    }

    @Test func keepAliveAnswersEveryRequest() throws {
        let connection = try Connection()
        for path in ["/a", "/b"] {
            #expect(
                try connection.send("GET \(path) HTTP/1.1\r\nhost: x\r\nx-request-id: 7\r\n\r\n")
                    == "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nx-request-id: 7\r\n"
                    + "connection: keep-alive\r\n\r\n\(path)"
            )
        }
        #expect(connection.channel.isActive)
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() throws {
        let connection = try Connection()
        let requests = ["/a", "/b", "/c"].map { "GET \($0) HTTP/1.1\r\nhost: x\r\n\r\n" }
        let answers = try connection.send(requests.joined()).components(separatedBy: "HTTP/1.1 200 OK")
        #expect(answers.map { String($0.suffix(2)) } == ["", "/a", "/b", "/c"])
    }

    @Test func headIsAnsweredWithoutABody() throws {
        let answer = try Connection().send("HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n")
        #expect(answer.contains("content-length: 2\r\n"))
        #expect(answer.hasSuffix("\r\n\r\n"))
    }

    @Test func connectionIsClosedWhenTheClientAsksForIt() throws {
        for request in ["GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "GET /a HTTP/1.0\r\n\r\n"] {
            let connection = try Connection()
            #expect(try connection.send(request).contains("connection: close\r\n"))
            #expect(!connection.channel.isActive)
        }
    }

    @Test func malformedEscapeIsA400AndTheConnectionGoesOn() throws {
        let connection = try Connection()
        #expect(try connection.send("GET /%zz HTTP/1.1\r\nhost: x\r\n\r\n").hasPrefix("HTTP/1.1 400 "))
        #expect(try connection.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n").hasPrefix("HTTP/1.1 200 "))
    }

    @Test func garbageIsA400AndTheEnd() throws {
        let connection = try Connection()
        #expect(try connection.send("\u{1}garbage\r\n\r\n").hasPrefix("HTTP/1.1 400 "))
        #expect(!connection.channel.isActive)
    }

    @Test func statisticsComeFromTheFrontEnd() throws {
        let connection = try Connection(service: EchoService())
        let answer = try connection.send("GET /stats?x HTTP/1.1\r\nhost: x\r\n\r\n")
        #expect(answer.contains(#""requests":1,"traps_contained":2,"restarts":3,"threads":"#))
        let refusal = try connection.send("DELETE /stats HTTP/1.1\r\nhost: x\r\n\r\n")
        #expect(refusal.hasPrefix("HTTP/1.1 405 "))
        #expect(refusal.contains("allow: GET, HEAD\r\n"))
    }

    @Test func requestThatIsNeverAnsweredGetsA503() throws {
        let connection = try Connection(service: SilentService())
        #expect(try connection.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n") == "")
        connection.idle()
        let answer = try connection.received()
        #expect(answer.hasPrefix("HTTP/1.1 503 "))
        #expect(answer.hasSuffix(#"{"error":"timeout","path":"/a"}"# + "\n"))
        #expect(!connection.channel.isActive)
    }

    @Test func idleConnectionIsClosed() throws {
        let connection = try Connection()
        connection.idle()
        #expect(!connection.channel.isActive)
    }

    @Test func drainingEndsAConnectionAfterItsNextAnswer() throws {
        let connection = try Connection()
        _ = try connection.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.channel.pipeline.fireUserInboundEventTriggered(DrainingHasBegun())
        #expect(connection.channel.isActive)
        #expect(try connection.send("GET /b HTTP/1.1\r\nhost: x\r\n\r\n").contains("connection: close\r\n"))
        #expect(!connection.channel.isActive)
    }

    @Test func drainingEndsABusyConnectionAfterItsAnswer() throws {
        let connection = try Connection()
        try connection.channel.writeInbound(ByteBuffer(string: "GET /a HTTP/1.1\r\nhost: x\r\n\r\n"))
        connection.channel.pipeline.fireUserInboundEventTriggered(DrainingHasBegun())
        #expect(connection.channel.isActive)
        #expect(try connection.received().contains("connection: close\r\n"))
        #expect(!connection.channel.isActive)
    }

    @Test func quiescingClosesIdleConnectionsAtOnceAndBusyOnesAfterTheirAnswer() throws {
        let idle = try Connection()
        idle.channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        #expect(!idle.channel.isActive)
        let busy = try Connection()
        // The answer waits in the event loop when the event arrives.
        try busy.channel.writeInbound(ByteBuffer(string: "GET /a HTTP/1.1\r\nhost: x\r\n\r\n"))
        busy.channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        #expect(busy.channel.isActive)
        #expect(try busy.received().contains("connection: close\r\n"))
        #expect(!busy.channel.isActive)
    }
}

extension String {
    /// Foundation's, without Foundation.
    fileprivate func components(separatedBy separator: String) -> [String] {
        var parts = [""]
        var rest = self[...]
        while let character = rest.first {
            if rest.hasPrefix(separator) {
                parts.append("")
                rest = rest.dropFirst(separator.count)
            } else {
                parts[parts.count - 1].append(character)
                rest = rest.dropFirst()
            }
        }
        return parts
    }
}
