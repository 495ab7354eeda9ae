// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The places that trap, each as an ordinary mistake in ordinary code.
///
/// `@inline(never)` keeps the compiler from seeing argument and mistake together: it would refuse some of these at compile
/// time and fold others into one trap, and each is to be its own kind, in a release build too.
enum TrapSite {
    @inline(never)
    static func divide(_ dividend: Int, by divisor: Int) -> Int { dividend / divisor }

    @inline(never)
    static func element(at index: Int) -> Int { primes[index] }
    private static let primes = [2, 3, 5, 7, 11]

    @inline(never)
    static func age(of name: String) -> Int { ages[name]! }
    private static let ages = ["ada": 36, "grace": 85]

    @inline(never)
    static func successor(of number: Int) -> Int { number + 1 }

    @inline(never)
    static func lives(ofPet index: Int) -> Int { (pets[index] as! Cat).lives }
    private static let pets: [Animal] = [Cat(lives: 9), Dog(), Manx(lives: 7)]

    /// Without end for a limit that no stack reaches. The checked addition after the call keeps it from becoming a loop.
    @inline(never)
    static func depth(from level: Int, limit: Int) -> Int {
        if level == limit { return 0 }
        return depth(from: level &+ 1, limit: limit) + 1
    }
}

// Sendable: immutable; only a final class can say so without `@unchecked`.
private class Animal: @unchecked Sendable {}
private final class Dog: Animal, @unchecked Sendable {}
/// Has a subclass, so that the cast is made, and fails, in the Swift runtime and not in a compare and a trap instruction.
private class Cat: Animal, @unchecked Sendable {
    /// Not the same in every cat: of a property that is, the optimizer knows the value without the object and drops the cast.
    let lives: Int
    init(lives: Int) { self.lives = lives }
}
private final class Manx: Cat, @unchecked Sendable {}
