// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Foundation
import Glibc

@testable import Executor

/// The machines in `shared/topologies`: real and made-up ones, from hwloc's own test suite.
enum TopologyFiles {
    /// `BASTION_TOPOLOGIES`, or `../shared/topologies` beside the package.
    static let directory: String = {
        if let value = getenv("BASTION_TOPOLOGIES") { return String(cString: value) }
        // <package>/Tests/ExecutorTests/TopologyFixtures.swift
        let parts = #filePath.split(separator: "/").dropLast(4)
        return "/" + parts.joined(separator: "/") + "/shared/topologies"
    }()

    static let names: [String] = {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var found: [String] = []
        while let entry = readdir(stream) {
            // safety: the entry is valid until the next readdir; its name is zero-terminated.
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasSuffix(".xml") { found.append(name) }
        }
        return found.sorted()
    }()

    static var arePresent: Bool { !names.isEmpty }

    static func load(_ name: String) throws -> Topology {
        try Topology(xmlFile: "\(directory)/\(name)")
    }
}

/// A directory that is removed, with what is in it, when the closure returns.
func withTemporaryDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
    var template = Array("/tmp/bastion-topology-XXXXXX".utf8CString)
    guard let created = mkdtemp(&template) else { throw TopologyError(.unreadableFile, "no temporary directory") }
    let path = String(cString: created)
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try body(path)
}

/// Writes a file below a directory and makes the directories on the way.
func write(_ text: String, to path: String, in directory: String) {
    var current = directory
    for part in path.split(separator: "/").dropLast() {
        current += "/\(part)"
        mkdir(current, 0o755)
    }
    let file = fopen("\(directory)/\(path)", "w")
    precondition(file != nil, "cannot write \(path)")
    fputs(text, file)
    fclose(file)
}

/// SplitMix64: small, seedable, and the same everywhere.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// `SEED` and `SCALE` of the environment; the seed is printed so that a failure can be repeated.
enum RandomRun {
    static let seed: UInt64 = {
        let seed = number("SEED") ?? UInt64.random(in: 0..<1_000_000)
        print("topology tests: SEED=\(seed) SCALE=\(scale)")
        return seed
    }()
    static let scale = Int(number("SCALE") ?? 1)

    private static func number(_ name: String) -> UInt64? {
        getenv(name).flatMap { UInt64(String(cString: $0)) }
    }
}

extension Topology {
    /// The same machine with other allowances, kinds or distances, as no file describes it.
    func changed(
        allowed: Set<Int>? = nil,
        quota: CPUQuota? = nil,
        origin: Origin? = nil,
        kinds newKinds: [CoreKind]? = nil,
        kindOf: ((Processor) -> Int)? = nil,
        distances: [[Int?]]? = nil,
        memory: [UInt64]? = nil
    ) -> Topology {
        Topology(
            origin: origin ?? self.origin,
            packages: packages,
            nodes: nodes.map { node in
                Node(
                    index: node.index,
                    osIndex: node.osIndex,
                    memoryBytes: memory?[node.index] ?? node.memoryBytes,
                    memoryKind: node.memoryKind,
                    processors: node.processors,
                    distances: distances?[node.index] ?? node.distances
                )
            },
            caches: caches,
            cores: cores,
            kinds: newKinds ?? kinds,
            processors: processors.map { processor in
                Processor(
                    index: processor.index,
                    osIndex: processor.osIndex,
                    package: processor.package,
                    core: processor.core,
                    l2: processor.l2,
                    l3: processor.l3,
                    node: processor.node,
                    kind: kindOf?(processor) ?? processor.kind,
                    isAllowed: allowed?.contains(processor.index) ?? processor.isAllowed,
                    ancestors: processor.ancestors
                )
            },
            allowance: Allowance(excluded: allowance.excluded, offline: [], affinity: allowance.affinity, quota: quota),
            warnings: warnings
        )
    }
}
