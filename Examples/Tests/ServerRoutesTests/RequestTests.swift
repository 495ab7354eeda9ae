// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import ServerRoutes

@Suite struct RequestTests {
    @Test(
        arguments: [
            ("/hello", "/hello", []),
            ("/divide?by=0", "/divide", [("by", "0")]),
            ("/a?x=1&y=2", "/a", [("x", "1"), ("y", "2")]),
            ("/a?", "/a", []),
            ("/a?&&x&=v&", "/a", [("x", ""), ("", "v")]),
            ("/a?x=1=2", "/a", [("x", "1=2")]),
            ("/a?x=1?y", "/a", [("x", "1?y")]),
            ("/a%20b/%C3%A9+c?n%61me=a+b%2Bc", "/a b/é+c", [("name", "a b+c")]),
            ("/a#fragment?x=1", "/a", []),
            ("http://host:80/a?x=1", "/a", [("x", "1")]),
            ("HTTP://host", "/", []),
            ("http://host?x=1", "/", [("x", "1")]),
        ] as [(String, String, [(String, String)])]
    )
    func targetIsSplitAndDecoded(target: String, path: String, parameters: [(String, String)]) throws {
        let request = try Request(method: .get, target: target)
        #expect(request.path == path)
        #expect(request.query.parameters == parameters.map { Query.Parameter(name: $0.0, value: $0.1) })
    }

    @Test(arguments: [
        "", "*", "hello", "host:443", "ftp://host/a", "/%", "/%4", "/%zz", "/%+1", "/%ff", "/a?x=%", "/a?%G0=1",
        "/a?x=%80",
        "/%C3%28",
    ])
    func malformedTargetIsABadRequest(target: String) {
        #expect(throws: RequestProblem.self) { try Request(method: .get, target: target) }
        do {
            _ = try Request(method: .get, target: target)
        } catch {
            #expect(error.status == 400)
            #expect(!error.reason.isEmpty)
        }
    }

    @Test func methodsAreCaseSensitive() {
        #expect(Request.Method("GET") == .get)
        #expect(Request.Method("HEAD") == .head)
        #expect(Request.Method("get") == .other("get"))
    }

    /// Any bytes give a request or a 400; nothing traps.
    @Test func randomTargetsNeverTrap() {
        var random = SeededRandom()
        let alphabet = Array("/?&=%+#aF0:é\u{0}".unicodeScalars)
        for _ in 0..<(2000 * random.scale) {
            var target = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 0...24, using: &random) {
                target.append(alphabet.randomElement(using: &random) ?? "/")
            }
            guard let request = try? Request(method: .get, target: String(target)) else { continue }
            #expect(request.path.hasPrefix("/"))
            _ = try? Route(request)
        }
    }
}

/// SplitMix64, seeded from `SEED`.
private struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    let scale: Int

    init() {
        state = environment("SEED").flatMap { UInt64($0) } ?? UInt64.random(in: 0...UInt64.max)
        scale = environment("SCALE").flatMap { Int($0) } ?? 1
        print("SEED=\(state) SCALE=\(scale)")
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
