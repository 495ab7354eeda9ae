// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import NIOHTTP1

/// The decisions of one connection: when a request is served, refused, answered, given up.
///
/// The pipelining handler before it lets the next head through only after the answer to the last one was written, so there
/// is one exchange at a time.
struct ConnectionState {
    enum Action: Equatable {
        case none
        case serve(Exchange)
        /// Write a 413 and go on reading.
        case refuseBody(Exchange)
        /// Write a 503 and close.
        case answerTimeout(Exchange)
        case close
    }

    private enum State {
        /// Between two requests.
        case idle
        /// The head has arrived, the body is being thrown away.
        case receiving(Exchange, bodyBytes: Int)
        /// The service has the request.
        case serving(Exchange)
        /// The body was too large and the 413 is written; the rest is read so that the client gets to read the answer.
        case drainingRefused(bodyBytes: Int)
        /// Nothing is sent or expected any more.
        case closed
    }

    private let bodyLimit: Int
    private var state = State.idle
    private var exchanges: UInt64 = 0
    private var isDraining = false

    init(bodyLimit: Int) {
        self.bodyLimit = bodyLimit
    }

    /// How much of a refused body is read before the connection is cut.
    private static let drainLimit = 16 << 20

    mutating func headReceived(_ head: HTTPRequestHead) {
        switch state {
        case .idle:
            exchanges &+= 1
            state = .receiving(Exchange(number: exchanges, head: head), bodyBytes: 0)
        case .closed:
            break  // Bytes that were already on their way when the connection was given up.
        case .receiving, .serving, .drainingRefused:
            preconditionFailure("a second request head before the answer to the first")
        }
    }

    mutating func bodyReceived(bytes: Int) -> Action {
        switch state {
        case .receiving(var exchange, let received) where received + bytes > bodyLimit:
            exchange.isKeepAlive = false
            state = .drainingRefused(bodyBytes: received + bytes)
            return .refuseBody(exchange)
        case .receiving(let exchange, let received):
            state = .receiving(exchange, bodyBytes: received + bytes)
            return .none
        case .drainingRefused(let received) where received + bytes > Self.drainLimit:
            state = .closed
            return .close
        case .drainingRefused(let received):
            state = .drainingRefused(bodyBytes: received + bytes)
            return .none
        case .closed:
            return .none
        case .idle, .serving:
            preconditionFailure("a body outside of a request")
        }
    }

    mutating func endReceived() -> Action {
        switch state {
        case .receiving(let exchange, _):
            state = .serving(exchange)
            return .serve(exchange)
        case .drainingRefused:
            state = .closed
            return .close
        case .closed:
            return .none
        case .idle, .serving:
            preconditionFailure("the end of a request that had no head")
        }
    }

    /// The service answered the exchange of that number: returns it to write the answer, or nil if it is too late.
    mutating func answered(_ number: UInt64) -> Exchange? {
        switch state {
        case .serving(var exchange) where exchange.number == number:
            if isDraining { exchange.isKeepAlive = false }
            state = exchange.isKeepAlive ? .idle : .closed
            return exchange
        case .idle, .receiving, .serving, .drainingRefused, .closed:
            return nil  // A second answer, one that came after the timeout, or a client that has left.
        }
    }

    /// Nothing moved on the connection for the idle timeout.
    mutating func idledOut() -> Action {
        switch state {
        case .serving(var exchange):
            exchange.isKeepAlive = false
            state = .closed
            return .answerTimeout(exchange)
        case .idle, .receiving, .drainingRefused:
            state = .closed
            return .close
        case .closed:
            return .close  // The client does not take the last answer.
        }
    }

    /// The next answer is the last one, and says so: a client that is told in time loses no request, as it would on a connection that
    /// is closed while its next request is on its way.
    mutating func drain() {
        isDraining = true
    }

    mutating func connectionClosed() {
        state = .closed
    }
}
