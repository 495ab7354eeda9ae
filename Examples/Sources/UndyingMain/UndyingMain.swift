// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// A main program that always fails, and is always started again; this one has enough at last.
@main
struct UndyingMain: FortProgram {
    static let backoff = Backoff.none
    private static let lives = 10

    func run(in context: Context) async throws {
        print("undying main, life \(context.restarts + 1)")
        let failures = Array(repeating: "a trap ends this life only", count: context.restarts)
        // An index behind the last one: a trap, but for the last life.
        print(failures[context.restarts < Self.lives ? context.restarts : 0])
    }
}
