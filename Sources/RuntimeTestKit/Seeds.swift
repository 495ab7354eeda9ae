// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Which seeds tests run with.
public enum Seeds {
    /// The seed that `BASTION_SEED` in the environment names; nil if it names none.
    public static var fromEnvironment: UInt64? {
        getenv("BASTION_SEED").flatMap { UInt64(String(cString: $0)) }
    }

    /// The seeds of a test: `count` of them from the first one on, or the one in the environment.
    public static func list(count: Int, from first: UInt64 = 1) -> [UInt64] {
        if let seed = fromEnvironment { return [seed] }
        return (0..<count).map { first &+ UInt64($0) }
    }
}

/// A test failed with a seed.
public struct SeedFailure: Error, CustomStringConvertible {
    /// With which.
    public let seed: UInt64
    /// How.
    public let error: any Error

    /// The seed, how to repeat it, and the error.
    public var description: String { "seed \(seed) failed (repeat with BASTION_SEED=\(seed)): \(error)" }
}

/// Runs a test with many seeds, one after the other; with `BASTION_SEED=7` in the environment, with that one only.
///
/// The first failure is printed with its seed, and ends it.
/// - Parameter body: Fails by throwing, as with `try #require(...)` or `XCTUnwrap`; an expectation that does not throw should
///   name the simulation in its comment: `#expect(total == 2, "\(simulation)")`.
/// - Throws: ``SeedFailure`` around what the body threw.
public func forEachSeed(count: Int = 100, from first: UInt64 = 1, _ body: (UInt64) throws -> Void) throws {
    for seed in Seeds.list(count: count, from: first) {
        do { try body(seed) } catch { throw report(error, of: seed) }
    }
}

/// As ``forEachSeed(count:from:_:)``, for a test that awaits.
public func forEachSeed(
    count: Int = 100,
    from first: UInt64 = 1,
    _ body: (UInt64) async throws -> Void
) async throws {
    for seed in Seeds.list(count: count, from: first) {
        do { try await body(seed) } catch { throw report(error, of: seed) }
    }
}

private func report(_ error: any Error, of seed: UInt64) -> SeedFailure {
    let failure = SeedFailure(seed: seed, error: error)
    print(failure)
    return failure
}

extension Simulation {
    /// Runs the same twice, each time in a simulation of its own, and compares the traces: code whose runs differ depends on
    /// something outside of the simulation, and its failures cannot be repeated.
    ///
    /// - Returns: The trace.
    /// - Throws: ``SimulationError`` with the first event that differs; what `body` throws.
    @discardableResult
    public static func checkEqualRuns(
        seed: UInt64? = nil,
        workers: Int = 4,
        faults: FaultPlan = [],
        _ body: (Simulation) throws -> Void
    ) throws -> SimulationTrace {
        let first = Simulation(seed: seed, workers: workers, faults: faults)
        try body(first)
        let second = Simulation(seed: seed, workers: workers, faults: faults)
        try body(second)
        if let difference = first.trace.firstDifference(from: second.trace) {
            throw second.failure(.unequalRuns, "two runs with this seed differ: \(difference)")
        }
        return first.trace
    }
}
