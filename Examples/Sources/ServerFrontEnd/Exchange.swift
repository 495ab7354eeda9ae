// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import NIOHTTP1

/// What must be remembered of a request to write the answer to it.
struct Exchange: Equatable {
    /// Counts the requests of a connection, so that a late answer is not taken for the answer to a later request.
    var number: UInt64
    var method: HTTPMethod
    var target: String
    var isKeepAlive: Bool
    /// The value of `X-Request-ID`, which is sent back.
    var requestID: String?

    init(number: UInt64, head: HTTPRequestHead) {
        self.number = number
        method = head.method
        target = head.uri
        isKeepAlive = head.isKeepAlive
        requestID = head.headers.first(name: "x-request-id")
    }
}
