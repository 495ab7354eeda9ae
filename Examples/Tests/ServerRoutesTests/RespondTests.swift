// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import ServerRoutes

@Suite struct RespondTests {
    @Test(arguments: [
        ("/hello", 200, #"{"path":"/hello","greeting":"hello"}"#),
        ("/divide?by=7", 200, #"{"path":"/divide","quotient":142}"#),
        ("/divide?by=-3", 200, #"{"path":"/divide","quotient":-333}"#),
        ("/index?i=4", 200, #"{"path":"/index","element":11}"#),
        (
            "/divide", 400,
            #"{"error":"bad request","reason":"query parameter 'by' is missing","path":"/divide"}"#
        ),
        ("/no%22where", 404, #"{"error":"not found","reason":"no such path","path":"/no\"where"}"#),
    ])
    func goodRequestsAreAnswered(target: String, status: Int, body: String) async throws {
        let response = try await respond(to: Request(method: .get, target: target))
        #expect(response == Response(status: status, body: body + "\n"))
    }

    @Test func throwThrows() async throws {
        await #expect(throws: StockExhausted.self) { try await respond(to: Request(path: "/throw")) }
    }

    @Test(arguments: [
        "/divide?by=0", "/index?i=99", "/index?i=-1", "/unwrap", "/overflow", "/cast", "/recurse", "/async-trap",
        "/async-trap?in=group",
    ])
    func trapRoutesKillAProcessThatDoesNotContainThem(target: String) async {
        await #expect(processExitsWith: .failure) { [target] in
            _ = try await respond(to: Request(method: .get, target: target))
        }
    }

    @Test func failuresNameTheirReason() {
        #expect(
            Response.trapped(kind: "index out of range", path: "/index")
                == Response(status: 500, body: #"{"error":"trap","kind":"index out of range","path":"/index"}"# + "\n")
        )
        #expect(
            Response.thrown(StockExhausted(article: "tea"), path: "/throw")
                == Response(status: 500, body: #"{"error":"thrown","reason":"no tea left","path":"/throw"}"# + "\n")
        )
        #expect(
            Response.overloaded(path: "/hello")
                == Response(status: 503, body: #"{"error":"overload","path":"/hello"}"# + "\n")
        )
        #expect(
            Response.timedOut(path: "/hello")
                == Response(status: 503, body: #"{"error":"timeout","path":"/hello"}"# + "\n")
        )
    }
}
