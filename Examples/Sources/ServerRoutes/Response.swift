// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What a request is answered with.
package struct Response: Sendable, Equatable {
    package var status: Int
    package var contentType: String
    package var body: String

    package init(status: Int, contentType: String = "application/json", body: String) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }

    package init(status: Int = 200, json: JSON) {
        self.init(status: status, body: json.text + "\n")
    }
}

// MARK: - Answers to what went wrong

extension Response {
    /// The answer to a request whose process trapped, with the kind of trap in words ("index out of range").
    package static func trapped(kind: String, path: String) -> Response {
        Response(status: 500, json: ["error": "trap", "kind": .string(kind), "path": .string(path)])
    }

    /// The answer to a request whose handler threw.
    package static func thrown(_ error: any Error, path: String) -> Response {
        Response(
            status: 500,
            json: ["error": "thrown", "reason": .string(String(describing: error)), "path": .string(path)]
        )
    }

    /// The answer to a request for which there is no room at the moment.
    package static func overloaded(path: String) -> Response {
        Response(status: 503, json: ["error": "overload", "path": .string(path)])
    }

    /// The answer to a request whose handler took too long.
    package static func timedOut(path: String) -> Response {
        Response(status: 503, json: ["error": "timeout", "path": .string(path)])
    }

    /// The answer to a request that the server gave up for another reason (a stop, a killed process).
    package static func unavailable(_ reason: String, path: String) -> Response {
        Response(
            status: 503,
            json: ["error": "unavailable", "reason": .string(reason), "path": .string(path)]
        )
    }

    /// The answer to a request that asks for what the server does not have or do.
    package static func problem(_ problem: RequestProblem, path: String) -> Response {
        Response(
            status: problem.status,
            json: ["error": .string(problem.title), "reason": .string(problem.reason), "path": .string(path)]
        )
    }
}
