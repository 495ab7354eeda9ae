// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import ServerRoutes

@Suite struct RouteTests {
    @Test(
        arguments: [
            ("/hello", .hello),
            ("/hello?ignored=1", .hello),
            ("/divide?by=0", .divide(by: 0)),
            ("/divide?by=-7", .divide(by: -7)),
            ("/divide?x=1&by=%37", .divide(by: 7)),
            ("/index?i=99", .index(99)),
            ("/unwrap", .unwrap),
            ("/overflow", .overflow),
            ("/cast", .cast),
            ("/recurse", .recurse),
            ("/throw", .throw),
            ("/async-trap", .asyncTrap(in: .asyncLet)),
            ("/async-trap?in=let", .asyncTrap(in: .asyncLet)),
            ("/async-trap?in=group", .asyncTrap(in: .taskGroup)),
        ] as [(String, Route)]
    )
    func pathAndQueryNameARoute(target: String, route: Route) throws {
        #expect(try Route(Request(method: .get, target: target)) == route)
        #expect(try Route(Request(method: .head, target: target)) == route)
    }

    @Test(arguments: [
        ("/", 404), ("/hello/", 404), ("/Hello", 404), ("/hell%6F!", 404), ("//hello", 404),
        ("/divide", 400), ("/divide?by", 400), ("/divide?by=", 400), ("/divide?by=zero", 400), ("/divide?by=1.5", 400),
        ("/divide?by=%200", 400), ("/divide?by=1&by=2", 400), ("/divide?by=9223372036854775808", 400),
        ("/index?by=1", 400), ("/async-trap?in=cellar", 400),
    ])
    func whatIsNoRouteIsAProblem(target: String, status: Int) throws {
        let request = try Request(method: .get, target: target)
        #expect { try Route(request) } throws: { ($0 as? RequestProblem)?.status == status }
    }

    @Test(arguments: ["POST", "PUT", "DELETE", "OPTIONS", "get"])
    func onlyGetAndHeadAreAllowed(method: String) throws {
        let request = try Request(method: Request.Method(method), target: "/divide")
        #expect(throws: RequestProblem.methodNotAllowed) { try Route(request) }
    }

    @Test func unknownPathIsNotFoundWhateverTheMethod() throws {
        let request = try Request(method: .other("POST"), target: "/nowhere")
        #expect(throws: RequestProblem.notFound) { try Route(request) }
    }
}
