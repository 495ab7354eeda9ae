// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFaults
import Runtime

/// Everything that a program can do to make the Swift runtime, or the compiler's checks, end it.
enum Misdeed: String, CaseIterable, Sendable {
    case index, negativeIndex, contiguousIndex, sliceIndex, emptyArray, stringIndex
    case fatal, precondition, preconditionFailure
    #if DEBUG
    case assertion, assertionFailure
    #endif
    case unwrapping, implicitUnwrapping, rawValue
    case addition, subtraction, multiplication, negation, conversion, floatConversion
    case division, remainder, divisionOverflow
    case closedRange, range
    case forcedTry
    case classCast, existentialCast, stringCast
    case exclusivity, dangling, duplicateKeys, unexpectedCase
    case continuationTwice, wrongActor, resurrection
    case builtinTrap, abort
    #if arch(x86_64)
    case dividingInC
    #endif
    case stackOverflow

    /// What the report of it says.
    var kind: TrapKind {
        switch self {
        case .index, .negativeIndex, .contiguousIndex, .sliceIndex, .emptyArray, .stringIndex: .indexOutOfRange
        case .fatal: .fatalError
        case .precondition: .preconditionFailure
        // The runtime says "Fatal error" of it, debug information does not.
        case .preconditionFailure: Self.isOptimised ? .preconditionFailure : .fatalError
        #if DEBUG
        case .assertion: .preconditionFailure
        case .assertionFailure: .fatalError
        #endif
        case .unwrapping, .implicitUnwrapping, .rawValue: .nilUnwrapped
        case .addition, .subtraction, .multiplication, .negation, .divisionOverflow: .arithmeticOverflow
        case .conversion, .floatConversion: .arithmeticOverflow
        case .division, .remainder: .divisionByZero
        case .closedRange, .range: .preconditionFailure
        case .forcedTry: .unexpectedError
        case .classCast, .existentialCast, .stringCast: .failedCast
        case .exclusivity: .exclusivityViolation
        case .dangling: .danglingUnowned
        case .duplicateKeys: .duplicateKey
        case .unexpectedCase: .fatalError
        case .continuationTwice, .resurrection: .fatalError
        // A trap of Dispatch's, which says nothing where the runtime could hear it.
        case .wrongActor: .trap
        case .builtinTrap: .trap
        case .abort: .abort
        #if arch(x86_64)
        case .dividingInC: .divisionByZero
        #endif
        case .stackOverflow: .stackOverflow
        }
    }

    #if DEBUG
    private static let isOptimised = false
    #else
    private static let isOptimised = true
    #endif

    /// Does it. Returns only where the optimiser has found that nobody looks at the result.
    @inline(never) @discardableResult
    func commit() -> Int {
        switch self {
        case .index: return opaque([1, 2, 3])[opaque(7)]
        case .negativeIndex: return opaque([1, 2, 3])[opaque(-1)]
        case .contiguousIndex: return opaque(ContiguousArray([1, 2, 3]))[opaque(3)]
        case .sliceIndex: return opaque([1, 2, 3][1...])[opaque(0)]
        case .emptyArray:
            var none = opaque([Int]())
            return none.removeLast()
        case .stringIndex:
            let text = opaque("text")
            return text[text.index(text.endIndex, offsetBy: opaque(1))].isLetter ? 1 : 0
        case .fatal:
            if opaque(true) { fatalError("enough") }
            return 0
        case .precondition:
            Swift.precondition(opaque(false), "not met")
            return 0
        case .preconditionFailure:
            if opaque(true) { Swift.preconditionFailure("never here") }
            return 0
        #if DEBUG
        case .assertion:
            assert(opaque(false), "not so")
            return 0
        case .assertionFailure:
            if opaque(true) { Swift.assertionFailure("not here") }
            return 0
        #endif
        case .unwrapping: return opaque(Int?.none)!
        case .implicitUnwrapping:
            let never: Int! = opaque(Int?.none)
            return never
        case .rawValue: return Letter(rawValue: opaque(7))!.rawValue
        case .addition: return opaque(Int.max) + opaque(1)
        case .subtraction: return opaque(Int.min) - opaque(1)
        case .multiplication: return opaque(Int.max) * opaque(2)
        case .negation: return -opaque(Int.min)
        case .conversion: return Int(UInt8(opaque(300)))
        case .floatConversion: return Int(opaque(Double.nan))
        case .division: return opaque(1) / opaque(0)
        case .remainder: return opaque(1) % opaque(0)
        case .divisionOverflow: return opaque(Int.min) / opaque(-1)
        case .closedRange: return (opaque(3)...opaque(1)).count
        case .range: return (opaque(3)..<opaque(1)).count
        case .forcedTry: return try! failing()
        case .classCast: return (opaque(Shelf() as AnyObject) as! Stranger).number
        case .existentialCast: return (opaque(Shelf() as Any) as! any Numbered).number
        case .stringCast: return (opaque(1 as Any) as! String).count
        case .exclusivity:
            let shelf = opaque(Shelf())
            shelf.change { $0.append(shelf.take()) }
            return shelf.items.count
        case .dangling: return orphaned().parent.number
        case .duplicateKeys: return Dictionary(uniqueKeysWithValues: [(opaque(1), 1), (opaque(1), 2)]).count
        case .unexpectedCase:
            switch faults_suitThatIsNone() {
            case .hearts: return 1
            case .spades: return 2
            }
        case .continuationTwice:
            UsedContinuation.shared.resumeAgain()
            return 0
        case .wrongActor: return MainActor.assumeIsolated { opaque(1) }
        case .resurrection:
            Undead.make()
            return 0
        case .builtinTrap:
            faults_trap()
            return 0
        case .abort:
            faults_abort()
            return 0
        #if arch(x86_64)
        case .dividingInC: return Int(faults_divide(1, 0))
        #endif
        case .stackOverflow: return descend(opaque(0))
        }
    }
}

/// Hides a value from the optimiser.
@inline(never) @_optimize(none) func opaque<Value>(_ value: Value) -> Value { value }

struct Boom: Error {}

private enum Letter: Int { case a, b }

private protocol Numbered { var number: Int { get } }

private final class Shelf {
    var items = [1]
    @inline(never) func change(_ body: (inout [Int]) -> Void) { body(&items) }
    @inline(never) func take() -> Int { items.removeLast() }
}

private final class Stranger: Numbered {
    var number = 1
}

private struct Orphan {
    unowned let parent: Stranger
}

@inline(never)
private func orphaned() -> Orphan {
    let parent = opaque(Stranger())
    return Orphan(parent: parent)
}

@inline(never)
private func failing() throws -> Int {
    if opaque(true) { throw Boom() }
    return 0
}

@inline(never)
private func descend(_ depth: Int) -> Int {
    if opaque(depth) < 0 { return 0 }
    return descend(depth + 1) + 1
}

/// An object that somebody holds on to when it is already being destroyed: a fatal error of the runtime.
private final class Undead {
    nonisolated(unsafe) static var held: [Unmanaged<Undead>] = []
    @inline(never) static func make() { _ = opaque(Undead()) }
    deinit { _ = opaque(Unmanaged.passRetained(self)) }
}

/// A continuation that was resumed before.
final class UsedContinuation: Sendable {
    static let shared = UsedContinuation()
    private nonisolated(unsafe) var continuation: CheckedContinuation<Void, Never>?

    /// Before any other thread looks.
    func use() async {
        await withCheckedContinuation {
            continuation = $0
            $0.resume()
        }
    }

    func resumeAgain() { continuation?.resume() }
}
