// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Why a request cannot be served, with the status that says so.
package struct RequestProblem: Error, Sendable, Equatable {
    package var status: Int
    package var reason: String

    package static func badRequest(_ reason: String) -> Self { Self(status: 400, reason: reason) }
    package static let notFound = Self(status: 404, reason: "no such path")
    package static let methodNotAllowed = Self(status: 405, reason: "only GET and HEAD are allowed")
    package static let bodyTooLarge = Self(status: 413, reason: "the request body is too large")

    /// The words of RFC 9110 for the status, as they stand in the `error` field of the answer.
    package var title: String {
        switch status {
        case 400: "bad request"
        case 404: "not found"
        case 405: "method not allowed"
        case 413: "content too large"
        default: "error \(status)"
        }
    }
}
