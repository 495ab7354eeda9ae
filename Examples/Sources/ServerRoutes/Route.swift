// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What a request asks for: the path and query of a ``Request``, understood.
package enum Route: Sendable, Equatable {
    /// Where the child task that traps is made.
    package enum ChildTask: String, Sendable {
        case asyncLet = "let"
        case taskGroup = "group"
    }

    case hello
    case divide(by: Int)
    case index(Int)
    case unwrap
    case overflow
    case cast
    case recurse
    case `throw`
    case asyncTrap(in: ChildTask)

    /// The path that the front end answers itself, so that it is answered whatever the state of the handlers.
    package static let statisticsPath = "/stats"

    /// - Throws: a problem with status 404, 405 or 400, looked for in this order.
    package init(_ request: Request) throws(RequestProblem) {
        guard Self.paths.contains(request.path) else { throw .notFound }
        guard request.method == .get || request.method == .head else { throw .methodNotAllowed }
        switch request.path {
        case "/hello": self = .hello
        case "/divide": self = .divide(by: try request.query.integer("by"))
        case "/index": self = .index(try request.query.integer("i"))
        case "/unwrap": self = .unwrap
        case "/overflow": self = .overflow
        case "/cast": self = .cast
        case "/recurse": self = .recurse
        case "/throw": self = .throw
        case "/async-trap": self = .asyncTrap(in: try Self.childTask(request.query))
        default: throw .notFound
        }
    }

    private static let paths: Set<String> = [
        "/hello", "/divide", "/index", "/unwrap", "/overflow", "/cast", "/recurse", "/throw", "/async-trap",
    ]

    private static func childTask(_ query: Query) throws(RequestProblem) -> ChildTask {
        guard let name = try query.value(of: "in") else { return .asyncLet }
        guard let childTask = ChildTask(rawValue: name) else {
            throw .badRequest("query parameter 'in' is neither 'let' nor 'group'")
        }
        return childTask
    }
}
