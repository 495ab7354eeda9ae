// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Foundation

/// What the built program `Topology` printed, and how it ended.
struct Run {
    let output: String
    let errors: String
    let status: Int32

    /// Runs the program to its end. Blocks the calling thread.
    init(_ arguments: [String]) throws {
        let program = try Self.folder.appendingPathComponent("Topology")
        self = try inTemporaryFolder { folder in
            // Files, as a pipe that nobody reads while the other one is read might fill.
            let files = ["output", "errors"].map { folder.appendingPathComponent($0) }
            for file in files { try Data().write(to: file) }
            let process = Process()
            process.executableURL = program
            process.arguments = arguments
            process.standardInput = FileHandle.nullDevice
            process.standardOutput = try FileHandle(forWritingTo: files[0])
            process.standardError = try FileHandle(forWritingTo: files[1])
            try process.run()
            process.waitUntilExit()
            let texts = try files.map { String(decoding: try Data(contentsOf: $0), as: UTF8.self) }
            // A signal is no exit status.
            let isExit = process.terminationReason == .exit
            return Run(texts[0], texts[1], isExit ? process.terminationStatus : -process.terminationStatus)
        }
    }

    private init(_ output: String, _ errors: String, _ status: Int32) {
        self.output = output
        self.errors = errors
        self.status = status
    }

    /// Where the tests were built, and so the program.
    private static var folder: URL {
        get throws {
            let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
            return URL(fileURLWithPath: tests).deletingLastPathComponent()
        }
    }
}

/// A folder that is removed, with what is in it, when the closure returns.
func inTemporaryFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("topology-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder)
}

/// A worker as `docs/topology-json.md` describes it.
struct Worker: Decodable, Equatable {
    let index, pu, osPU, core, l3, node, kind: Int
    let steal: [[Int]]
}

struct Plan: Decodable {
    let workers: [Worker]

    /// What the program prints with `--json`, which has to be one line.
    init(of arguments: String...) throws {
        let run = try Run(arguments + ["--json"])
        guard run.status == 0, run.errors == "", run.output.last == "\n", run.output.count(where: \.isNewline) == 1
        else {
            throw Unexpected(run: run)
        }
        self = try JSONDecoder().decode(Plan.self, from: Data(run.output.utf8))
    }

    struct Unexpected: Error { let run: Run }
}
