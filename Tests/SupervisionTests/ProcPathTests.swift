// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Paths: what parses, what does not, and that they print as they are parsed.
@Suite struct ProcPathTests {
    @Test func aPathIsReadAndTakenApart() throws {
        let path = try ProcPath(parsing: "/tree/orders/worker-3")
        #expect(path.components == ["tree", "orders", "worker-3"])
        #expect(path.name == "worker-3" && path.parent == "/tree/orders")
        #expect(try path.parent?.appending("worker-4") == "/tree/orders/worker-4")
        #expect(try ProcPath(components: ["tree", "orders"]) == "/tree/orders")
        #expect(ProcPath.root.components == [] && ProcPath.root.description == "/")
        #expect(ProcPath.root.parent == nil && ProcPath.root.name == nil && ProcPath("/") == .root)
        #expect(path.isBelow("/tree") && path.isBelow(.root) && !path.isBelow(path))
        #expect(!path.isBelow("/tree/order") && !path.isBelow("/tree/orders/worker-3/a"))
    }

    @Test(
        arguments: [
            ("", .noLeadingSlash), ("a", .noLeadingSlash), ("a/b", .noLeadingSlash), (" /a", .noLeadingSlash),
            ("//", .emptyComponent), ("/a/", .emptyComponent), ("/a//b", .emptyComponent), ("//a", .emptyComponent),
            ("/a/./b", .badComponent), ("/..", .badComponent), ("/a\nb", .badComponent), ("/a/\u{0}", .badComponent),
            ("/a\u{85}", .badComponent), ("/\u{2028}", .badComponent),
        ] as [(String, ProcPathError.Code)]
    )
    func whatIsNoPathIsRefusedAndSaysWhy(text: String, code: ProcPathError.Code) {
        #expect { _ = try ProcPath(parsing: text) } throws: { ($0 as? ProcPathError)?.code == code }
        #expect(ProcPath(text) == nil)
    }

    @Test func aNameIsCheckedWhereverItComesFrom() {
        for name in ["", "a/b", ".", "..", "a\tb", "/"] {
            #expect(throws: ProcPathError.self) { try ProcPath.root.appending(name) }
            #expect(throws: ProcPathError.self) { try ProcPath(components: ["a", name]) }
        }
    }

    @Test(arguments: RandomTest.seeds("paths", count: 500))
    func whatIsPrintedIsReadAgain(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let alphabet: [Unicode.Scalar] = [
            "a", "Z", "0", "-", "_", " ", ".", ":", "<", ">", "\\", "\"", "%", "ä", "\u{301}", "\u{200d}", "👩", "漢",
            "\u{10ffff}",
            "~", "\u{a0}",
        ]
        func name() -> String {
            var name = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 1...8, using: &random) { name.append(alphabet.randomElement(using: &random)!) }
            return String(name)
        }
        let names = (0..<Int.random(in: 0...6, using: &random)).map { _ in name() }
        if names.contains(where: { $0 == "." || $0 == ".." }) { return }
        let path = try ProcPath(components: names)
        let again = try ProcPath(parsing: path.description)
        // By bytes: equal strings may be spelt differently.
        #expect(again.components.map { Array($0.utf8) } == names.map { Array($0.utf8) }, "seed \(seed)")
        #expect(again == path && again.hashValue == path.hashValue)
        #expect(try names.reduce(ProcPath.root) { try $0.appending($1) } == path)

        // Whatever is read prints as it was.
        let soup = alphabet + ["/", "/", "/", "\n", "\u{0}"]
        var text = String.UnicodeScalarView()
        for _ in 0..<Int.random(in: 0...12, using: &random) { text.append(soup.randomElement(using: &random)!) }
        if let read = ProcPath(String(text)) {
            #expect(Array(read.description.utf8) == Array(String(text).utf8), "seed \(seed)")
        }
    }
}
