// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import LightProc

/// What the Swift runtime says before it traps, and what we make of it.
@Suite struct TrapWordsTests {
    private static let known: [(words: String, kind: TrapKind)] = [
        ("Swift/ContiguousArrayBuffer.swift:694: Fatal error: Index out of range", .indexOutOfRange),
        ("Fatal error: String index is out of bounds", .indexOutOfRange),
        ("Fatal error: Range out of bounds", .indexOutOfRange),
        ("App/main.swift:3: Fatal error: Unexpectedly found nil while unwrapping an Optional value", .nilUnwrapped),
        ("Fatal error: Unexpectedly found nil while implicitly unwrapping an Optional value", .nilUnwrapped),
        ("Fatal error: Division by zero", .divisionByZero),
        ("Fatal error: Division by zero in remainder operation", .divisionByZero),
        ("Fatal error: Division results in overflow", .arithmeticOverflow),
        ("Swift runtime failure: arithmetic overflow", .arithmeticOverflow),
        ("Fatal error: Not enough bits to represent the passed value", .arithmeticOverflow),
        ("App/main.swift:9: Fatal error: 'try!' expression unexpectedly raised an error: App.Boom()", .unexpectedError),
        ("Could not cast value of type 'App.A' (0x55d0) to 'App.B' (0x55e0).", .failedCast),
        ("Simultaneous accesses to 0x7f00, but modification requires exclusive access.", .exclusivityViolation),
        (
            "Fatal error: Attempted to read an unowned reference but object 0x7f00 was already deallocated",
            .danglingUnowned
        ),
        ("Swift/NativeDictionary.swift:792: Fatal error: Duplicate values for key: '1'", .duplicateKey),
        ("Fatal error: Duplicate keys of type 'K' were found in a Dictionary.", .duplicateKey),
        ("App/main.swift:4: Precondition failed: not met", .preconditionFailure),
        ("App/main.swift:4: Assertion failed", .preconditionFailure),
        ("Swift runtime failure: precondition failure", .preconditionFailure),
        ("App/main.swift:5: Fatal error: enough", .fatalError),
        ("App/main.swift:5: Fatal error", .fatalError),
    ]

    @Test(arguments: 0..<Self.known.count)
    func wordsOfTheRuntimeAreClassified(row: Int) {
        let (words, kind) = Self.known[row]
        #expect(TrapKind(words: words) == kind, "\(words)")
    }

    @Test func unknownWordsAreNotGuessedAt() {
        #expect(TrapKind(words: "") == nil)
        #expect(TrapKind(words: "the weather is fine") == nil)
    }

    @Test func kindsReadAsWords() {
        #expect(TrapKind.nilUnwrapped.description == "nil unwrapped")
        #expect(Set(TrapKind.allCases.map(\.description)).count == TrapKind.allCases.count)
    }

    // MARK: As this toolchain says it

    /// Real failures; the runtime's own words come from the standard error of a program that ends by them.
    private static let failures: [(kind: TrapKind, fail: @Sendable () -> Void)] = [
        (.indexOutOfRange, { print(opaque([1])[opaque(1)]) }),
        (.indexOutOfRange, { print(opaque([1])[opaque(-1)]) }),
        (.indexOutOfRange, { print(opaque("a")[opaque("abc").endIndex]) }),
        (.nilUnwrapped, { print(opaque(Int?.none)!) }),
        (
            .nilUnwrapped,
            {
                let value: Int! = opaque(Int?.none)
                print(value + 1)
            }
        ),
        (.divisionByZero, { print(opaque(1) / opaque(0)) }),
        (.divisionByZero, { print(opaque(1) % opaque(0)) }),
        (.arithmeticOverflow, { print(opaque(Int.min) / opaque(-1)) }),
        (.arithmeticOverflow, { print(UInt8(opaque(300))) }),
        (.unexpectedError, { try! throwMishap() }),
        (.failedCast, { print((opaque("a") as Any) as! Int) }),
        (.duplicateKey, { print(Dictionary(uniqueKeysWithValues: [(opaque(1), 1), (opaque(1), 2)])) }),
        (.danglingUnowned, { print(Orphan().parent.count) }),
        (.preconditionFailure, { precondition(opaque(false), "not met") }),
        (.preconditionFailure, { assert(opaque(false)) }),
        (.fatalError, { if opaque(true) { preconditionFailure("reads as a fatal error") } }),
        (.fatalError, { if opaque(true) { fatalError("enough") } }),
        (.fatalError, { if opaque(true) { fatalError() } }),
    ]

    private static func throwMishap() throws { throw Mishap() }

    private struct Orphan {
        unowned let parent: Parent
        init() {
            let parent = opaque(Parent())
            self.parent = parent
        }
        final class Parent { var count = 1 }
    }

    #if DEBUG
    @Test(arguments: 0..<Self.failures.count)
    func theWordsOfThisToolchainAreKnown(row: Int) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [row] in
            Self.failures[row].fail()
        }
        // The backtracer, where it is on, comes after an empty line.
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        let words = said.split(separator: "\n").first.map(String.init) ?? ""
        #expect(TrapKind(words: words) == Self.failures[row].kind, "\(words)")
    }
    #endif

    // MARK: Reports in the runtime's buffer

    @Test func aTextIsDividedWhereAReportBegins() {
        let text = """
            App/main.swift:1: Fatal error: first
            App/main.swift:2: Precondition failed: second

            Could not cast value of type 'A' (0x1) to 'B' (0x2).
            App/main.swift:3: Fatal error: a message
            of two lines
            App/main.swift:4: Assertion failed

            """
        #expect(
            RuntimeMessages.reports(in: text) == [
                "App/main.swift:1: Fatal error: first",
                "App/main.swift:2: Precondition failed: second",
                "Could not cast value of type 'A' (0x1) to 'B' (0x2).",
                "App/main.swift:3: Fatal error: a message\nof two lines",
                "App/main.swift:4: Assertion failed",
            ]
        )
    }

    @Test func aTextThatBeginsLikeNoReportIsOne() {
        #expect(RuntimeMessages.reports(in: "") == [])
        #expect(RuntimeMessages.reports(in: "\n\n") == [])
        #expect(RuntimeMessages.reports(in: "something\nelse") == ["something\nelse"])
        #expect(RuntimeMessages.reports(in: "odd\nFatal error: x") == ["odd", "Fatal error: x"])
    }

    @Test func aBufferIsRead() {
        var messages = RuntimeMessages()
        #expect(messages.read(strdup("Fatal error: 1\nFatal error: 2\n")) == ["Fatal error: 1", "Fatal error: 2"])
        // Many, so that the oldest are freed on the way.
        for number in 0..<200 {
            #expect(messages.read(strdup("Fatal error: \(number)\n")) == ["Fatal error: \(number)"])
        }
    }

    @Test func aTrapClaimsItsOwnWordsAndLeavesTheRest() {
        var messages = RuntimeMessages()
        #expect(messages.claim(own: ["mine", "another's"], speaks: true) == "mine")
        #expect(messages.claim(own: [], speaks: true) == "another's")
        #expect(messages.claim(own: [], speaks: true) == nil)
    }

    @Test func aTrapThatSaysNothingLeavesTheWordsToOthers() {
        var messages = RuntimeMessages()
        #expect(messages.claim(own: ["another's"], speaks: false) == nil)
        #expect(messages.claim(own: [], speaks: true) == "another's")
    }

    @Test func wordsThatNobodyClaimsAreForgotten() {
        var messages = RuntimeMessages()
        messages.leave(["lost"])
        for _ in 0..<4 { #expect(messages.claim(own: ["mine"], speaks: true) == "mine") }
        #expect(messages.claim(own: [], speaks: true) == nil)
    }
}
