// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Answers one request; traps where the route says so.
///
/// Nothing in here knows who runs it: the same code serves the server that survives and the one that does not.
///
/// - Throws: what the handler of `/throw` throws. A bad request is not an error here but an answer.
package func respond(to request: Request) async throws -> Response {
    let route: Route
    do {
        route = try Route(request)
    } catch {
        return .problem(error, path: request.path)
    }
    switch route {
    case .hello:
        return Response(json: ["path": "/hello", "greeting": "hello"])
    case .divide(let divisor):
        return Response(json: ["path": "/divide", "quotient": .integer(TrapSite.divide(1000, by: divisor))])
    case .index(let index):
        return Response(json: ["path": "/index", "element": .integer(TrapSite.element(at: index))])
    case .unwrap:
        return Response(json: ["path": "/unwrap", "age": .integer(TrapSite.age(of: "nobody"))])
    case .overflow:
        return Response(json: ["path": "/overflow", "next": .integer(TrapSite.successor(of: .max))])
    case .cast:
        return Response(json: ["path": "/cast", "lives": .integer(TrapSite.lives(ofPet: 1))])
    case .recurse:
        return Response(json: ["path": "/recurse", "depth": .integer(TrapSite.depth(from: 0, limit: .max))])
    case .throw:
        throw StockExhausted(article: "tea")
    case .asyncTrap(.asyncLet):
        async let element = elementAfterSuspension(at: 99)
        return Response(json: ["path": "/async-trap", "element": .integer(try await element)])
    case .asyncTrap(.taskGroup):
        let sum = try await withThrowingTaskGroup(of: Int.self) { group in
            group.addTask { try await elementAfterSuspension(at: 1) }
            group.addTask { try await elementAfterSuspension(at: 99) }
            return try await group.reduce(0, &+)
        }
        return Response(json: ["path": "/async-trap", "sum": .integer(sum)])
    }
}

private func elementAfterSuspension(at index: Int) async throws -> Int {
    try await Task.sleep(for: .milliseconds(2))
    return TrapSite.element(at: index)
}

/// The error that `/throw` throws.
package struct StockExhausted: Error, Sendable, CustomStringConvertible {
    package var article: String
    package var description: String { "no \(article) left" }
}
