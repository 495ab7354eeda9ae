// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Foundation
import Testing

/// What `docs/topology-json.md` promises to programs.
@Suite(.timeLimit(.minutes(2))) struct TopologyJSONTests {
    static let large = "pack:2 numa:1 l3:2 core:4 pu:2"

    /// The fields of the table in the document, in its order.
    private static func documentedFields() throws -> [String] {
        // <root>/Examples/Tests/TopologyTests/TopologyJSONTests.swift
        let root = "/" + #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
        let document = try String(contentsOfFile: "\(root)/docs/topology-json.md", encoding: .utf8)
        return document.split(separator: "\n").compactMap { line in
            line.hasPrefix("| `") ? line.split(separator: "`").dropFirst().first.map(String.init) : nil
        }
    }

    @Test(arguments: [[], ["--synthetic", large], ["--synthetic", "pack:2 pu:2"], ["--workers", "1"]])
    func fieldsAreTheDocumentedOnes(arguments: [String]) throws {
        let run = try Run(arguments + ["--json"])
        #expect(run.status == 0 && run.errors == "")
        let document = try #require(try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any])
        #expect(Array(document.keys) == ["workers"])
        let workers = try #require(document["workers"] as? [[String: Any]])
        #expect(!workers.isEmpty)
        let fields = try Self.documentedFields()
        #expect(fields.count == 8)
        for worker in workers {
            #expect(worker.keys.sorted() == fields.sorted())
            for (field, value) in worker where field != "steal" { #expect(value is Int, "\(field) is no integer") }
            #expect(worker["steal"] is [[Int]])
        }
    }

    /// What holds for each plan, and that no worker is left out of any order of stealing.
    private func expectSound(_ plan: Plan, sourceLocation: SourceLocation = #_sourceLocation) {
        let workers = plan.workers
        #expect(workers.map(\.index) == Array(workers.indices), sourceLocation: sourceLocation)
        #expect(Set(workers.map(\.pu)).count == workers.count, sourceLocation: sourceLocation)
        #expect(Set(workers.map(\.osPU)).count == workers.count, sourceLocation: sourceLocation)
        for worker in workers {
            let others = workers.indices.filter { $0 != worker.index }
            #expect(worker.steal.flatMap(\.self).sorted() == others, sourceLocation: sourceLocation)
            #expect(worker.steal.allSatisfy { !$0.isEmpty && $0 == $0.sorted() }, sourceLocation: sourceLocation)
        }
    }

    @Test func thisMachineHasAPlan() throws {
        let plan = try Plan()
        expectSound(plan)
        let one = try Plan(of: "--workers", "1").workers
        #expect(one.map(\.osPU) == [plan.workers[0].osPU])
        #expect(one[0].steal == [])
    }

    @Test func largeMachineIsSeatedByCoresAndStealsByProximity() throws {
        let plan = try Plan(of: "--synthetic", Self.large)
        expectSound(plan)
        // The first PU of each of the 16 cores, then the siblings.
        #expect(plan.workers.map(\.pu) == Array(stride(from: 0, to: 32, by: 2)) + Array(stride(from: 1, to: 32, by: 2)))
        #expect(plan.workers.map(\.osPU) == plan.workers.map(\.pu))
        #expect(plan.workers.map(\.core) == Array(0..<16) + Array(0..<16))
        #expect(plan.workers.map(\.l3) == (0..<32).map { $0 % 16 / 4 })
        #expect(plan.workers.map(\.node) == (0..<32).map { $0 % 16 / 8 })
        #expect(plan.workers.allSatisfy { $0.kind == 0 })
        #expect(
            plan.workers[0].steal == [
                [16], [1, 2, 3, 17, 18, 19], [4, 5, 6, 7, 20, 21, 22, 23], Array(8..<16) + Array(24..<32),
            ]
        )
        #expect(
            plan.workers[29].steal == [
                [13], [12, 14, 15, 28, 30, 31], [8, 9, 10, 11, 24, 25, 26, 27], Array(0..<8) + Array(16..<24),
            ]
        )
    }

    @Test(arguments: [1, 2, 17, 32])
    func fewerWorkersTakeTheFirstSeats(count: Int) throws {
        let all = try Plan(of: "--synthetic", Self.large).workers
        let plan = try Plan(of: "--workers=\(count)", "--synthetic=\(Self.large)")
        expectSound(plan)
        #expect(plan.workers.map(\.pu) == all.prefix(count).map(\.pu))
    }

    @Test func fileIsRead() throws {
        try inTemporaryFolder { folder in
            let file = folder.appendingPathComponent("machine & <more>.xml").path
            try TopologyXML.sparse.write(toFile: file, atomically: true, encoding: .utf8)
            let plan = try Plan(of: "--xml", file)
            expectSound(plan)
            let expected = [
                Worker(index: 0, pu: 0, osPU: 4, core: 0, l3: 0, node: 0, kind: 1, steal: [[4], [1], [2, 3]]),
                Worker(index: 1, pu: 2, osPU: 6, core: 1, l3: 0, node: 0, kind: 1, steal: [[0, 4], [2, 3]]),
                Worker(index: 2, pu: 3, osPU: 8, core: -1, l3: -1, node: -1, kind: 0, steal: [[3], [0, 1, 4]]),
                Worker(index: 3, pu: 4, osPU: 9, core: -1, l3: -1, node: -1, kind: 0, steal: [[2], [0, 1, 4]]),
                Worker(index: 4, pu: 1, osPU: 5, core: 0, l3: 0, node: 0, kind: 1, steal: [[0], [1], [2, 3]]),
            ]
            #expect(plan.workers == expected)
        }
    }
}
