// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The name of a report: `2026-11-28T12-00-00.123Z-NAME-PID-KIND`, with `.json` or `.txt` behind it. Pure.
///
/// Names of one program sort by time.
struct ReportName: Hashable, Sendable {
    enum Kind: String, Sendable, CaseIterable { case trap, death }

    /// As ``WallTime/fileText``.
    let time: String
    /// As ``fileName(of:)``.
    let program: String
    let pid: Int32
    let kind: Kind

    init(_ time: WallTime, _ program: String, _ pid: Int32, _ kind: Kind) {
        self.time = time.fileText
        self.program = Self.fileName(of: program)
        self.pid = pid
        self.kind = kind
    }

    static let endings = [".json", ".txt"]

    /// What both files of a report begin with.
    var stem: String { "\(time)-\(program)-\(pid)-\(kind.rawValue)" }

    /// Reads the name of a file; nil if it is none of ours.
    init?(file: String) {
        guard let ending = Self.endings.first(where: { file.hasSuffix($0) }) else { return nil }
        let stem = file.dropLast(ending.count)
        let pattern = "dddd-dd-ddTdd-dd-dd.dddZ-"
        guard stem.utf8.count > pattern.utf8.count,
            zip(stem.utf8, pattern.utf8).allSatisfy({ Self.fits($0, $1) })
        else { return nil }
        let parts = stem.dropFirst(pattern.count).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 3, let kind = Kind(rawValue: String(parts[parts.count - 1])),
            let pid = Int32(parts[parts.count - 2]), pid >= 0, "\(pid)" == parts[parts.count - 2]
        else { return nil }
        let program = parts.dropLast(2).joined(separator: "-")
        guard !program.isEmpty, program == Self.fileName(of: program) else { return nil }
        time = String(stem.prefix(pattern.count - 1))
        self.program = program
        self.pid = pid
        self.kind = kind
    }

    private static func fits(_ byte: UInt8, _ pattern: UInt8) -> Bool {
        pattern == UInt8(ascii: "d") ? (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) : byte == pattern
    }

    /// A program's name as part of a file's: at most 48 characters, letters, digits, `.`, `_`, `-`; anything else is `_`.
    static func fileName(of program: String) -> String {
        let allowed = program.utf8.prefix(48).map { byte -> UInt8 in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                byte
            default: UInt8(ascii: "_")
            }
        }
        return allowed.isEmpty ? "program" : String(decoding: allowed, as: UTF8.self)
    }

    /// Which files have to go so that the reports of a program stay within limits: the oldest reports, each with both its files.
    ///
    /// The last report stays, however large it is. What is not a report of this program is never among them.
    static func excess(
        of files: [(name: String, bytes: Int)],
        program: String,
        limits: ReportLimits
    ) -> [String] {
        let program = fileName(of: program)
        var reports: [ReportName: (names: [String], bytes: Int)] = [:]
        for file in files {
            guard let name = ReportName(file: file.name), name.program == program else { continue }
            reports[name, default: ([], 0)].names.append(file.name)
            reports[name, default: ([], 0)].bytes += file.bytes
        }
        var excess: [String] = []
        var (count, bytes) = (0, 0)
        for (_, report) in reports.sorted(by: { $0.key.stem > $1.key.stem }) {
            count += 1
            bytes += report.bytes
            if count > 1 && (count > limits.count || bytes > limits.bytes) { excess += report.names }
        }
        return excess.sorted()
    }
}
