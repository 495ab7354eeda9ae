// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Everything that a Swift program can do to make the runtime end it.
enum Misdeed: String, CaseIterable, Codable, Sendable {
    case index
    case fatal
    case precondition
    case unwrapping
    case overflow
    case division
    case forcedTry
    case forcedCast
    case exclusivity
    case dangling
    case duplicateKeys
    case endlessRecursion

    /// What the report of it says, where the runtime has words for it (debug builds).
    var kind: TrapKind {
        switch self {
        case .index: .indexOutOfRange
        case .fatal: .fatalError
        case .precondition: .preconditionFailure
        case .unwrapping: .nilUnwrapped
        case .overflow: .arithmeticOverflow
        case .division: .divisionByZero
        case .forcedTry: .unexpectedError
        case .forcedCast: .failedCast
        case .exclusivity: .exclusivityViolation
        case .dangling: .danglingUnowned
        case .duplicateKeys: .duplicateKey
        case .endlessRecursion: .stackOverflow
        }
    }

    /// Does it. Returns only where the optimiser has found that nobody looks at the result.
    @inline(never) @discardableResult
    func commit() -> Int {
        switch self {
        case .index: return opaque([1, 2, 3])[opaque(7)]
        case .fatal:
            if opaque(true) { fatalError("enough") }
            return 0
        case .precondition:
            Swift.precondition(opaque(false), "not met")
            return 0
        case .unwrapping: return opaque(Int?.none)!
        case .overflow: return opaque(Int.max) + opaque(1)
        case .division: return opaque(1) / opaque(0)
        case .forcedTry: return try! failing()
        case .forcedCast: return (opaque(Shelf() as AnyObject) as! Stranger).number
        case .exclusivity:
            let shelf = opaque(Shelf())
            shelf.change { $0.append(shelf.take()) }
            return shelf.items.count
        case .dangling: return orphaned().parent.number
        case .duplicateKeys: return Dictionary(uniqueKeysWithValues: [(opaque(1), 1), (opaque(1), 2)]).count
        case .endlessRecursion: return descend(opaque(0))
        }
    }
}

private final class Shelf {
    var items = [1]
    @inline(never) func change(_ body: (inout [Int]) -> Void) { body(&items) }
    @inline(never) func take() -> Int { items.removeLast() }
}

private final class Stranger {
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
