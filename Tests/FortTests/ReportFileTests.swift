// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc
import Testing

@testable import Fort

/// Files in the report directory.
@Suite struct ReportFileTests {
    /// Makes the file of a record that nobody holds; the number is the one that it says.
    private func leaveRecord(_ directory: TestDirectory, _ name: String, pid: Int32, start: Int64) {
        let descriptor = open("\(directory.path)/\(name)", O_RDWR | O_CREAT, 0o600)
        ftruncate(descriptor, off_t(ProcessRecord.byteCount))
        guard let record = ProcessRecord.map(descriptor) else { return }
        record.begin(program: "shop")
        record.pointer.pointee.pid = pid
        record.pointer.pointee.startTime = start
        record.unmap()
        close(descriptor)
    }

    @Test func aProgramThatLivesIsNotTakenForDead() throws {
        let directory = TestDirectory.make("living")
        defer { directory.remove() }
        let record = try RecordFile.make(in: directory.path, program: "shop", incarnation: 6)
        #expect(directory.names == ["shop-\(getpid()).dying"])
        #expect(RecordFile.findDead(in: directory.path, program: "shop").isEmpty)
        #expect(record.isValid)
        #expect(record.pointer.pointee.incarnation == 6)
        RecordFile.removeOwn(in: directory.path, program: "shop")
        #expect(directory.names == [])
    }

    @Test func theDeadAreFoundInTheOrderOfTheirStartAndByOneOnly() {
        let directory = TestDirectory.make("dead")
        defer { directory.remove() }
        leaveRecord(directory, "shop-7.dying", pid: 7, start: 300)
        leaveRecord(directory, "shop-8-100.dying", pid: 8, start: 100)
        leaveRecord(directory, "other-9.dying", pid: 9, start: 200)
        // Not a record: too short, and one of another layout.
        fclose(fopen("\(directory.path)/shop-5.dying", "w"))
        let other = open("\(directory.path)/shop-6.dying", O_RDWR | O_CREAT, 0o600)
        ftruncate(other, off_t(ProcessRecord.byteCount))
        close(other)
        let found = RecordFile.findDead(in: directory.path, program: "shop")
        #expect(found.map(\.life.pid) == [8, 7])
        // A program with the same number may come now.
        #expect(directory.names.contains("shop-7-300.dying"))
        #expect(!directory.names.contains("shop-7.dying"))
        #expect(RecordFile.findDead(in: directory.path, program: "shop").isEmpty)
        found[0].remove()
        found[1].leave()
        #expect(RecordFile.findDead(in: directory.path, program: "shop").map(\.life.pid) == [7])
        #expect(directory.names == ["other-9.dying", "shop-5.dying", "shop-6.dying", "shop-7-300.dying"])
    }

    private func report(at seconds: Int64) -> CrashReport {
        let record = ProcessRecord.unshared()!
        defer { record.unmap() }
        record.begin(program: "shop")
        var life = LifeRecord(record)
        life.startTime = WallTime(nanoseconds: 0)
        let time = WallTime(nanoseconds: seconds * 1_000_000_000)
        return CrashReport(DeathOfProgram(life, .forced, status: SIGKILL, found: time), restarts: nil)
    }

    @Test func writingKeepsTheDirectoryWithinItsLimits() throws {
        let directory = TestDirectory.make("limits")
        defer { directory.remove() }
        let reports = ReportDirectory(path: directory.path, limits: ReportLimits(count: 2, bytes: 1 << 20))
        // What was left an hour ago by a writer that was killed, and what may be written right now.
        let left = ".\(report(at: 1).name.stem).json.tmp"
        let fresh = ".\(report(at: 2).name.stem).json.tmp"
        let foreign = ".note.tmp"
        for name in [left, fresh, foreign, "notes.txt"] { fclose(fopen("\(directory.path)/\(name)", "w")) }
        let old = [timeval](repeating: timeval(tv_sec: time(nil) - 3700, tv_usec: 0), count: 2)
        for name in [left, foreign, "notes.txt"] { utimes("\(directory.path)/\(name)", old) }
        for second in [10, 30, 20] as [Int64] { try reports.write(report(at: second)) }
        let kept = [report(at: 20), report(at: 30)].flatMap { [$0.name.stem + ".json", $0.name.stem + ".txt"] }
        #expect(directory.names == ([fresh, foreign, "notes.txt"] + kept).sorted())
        #expect(directory.contents(of: kept[1]).hasPrefix("shop (\(getpid())) did not stop in time and was killed\n"))
    }

    @Test func aDirectoryIsMadeAndTried() throws {
        let directory = TestDirectory.make("tried")
        directory.remove()
        let reports = ReportDirectory(path: directory.path, limits: ReportLimits())
        try reports.check()
        #expect(directory.names == [])
        directory.remove()
        let error = #expect(throws: ReportDirectory.Failure.self) {
            try ReportDirectory(path: directory.path + "/below/it", limits: ReportLimits()).check()
        }
        #expect(error?.number == ENOENT)
    }

    @Test func aFileThatChangedSinceIsNotAskedForNames() throws {
        let record = ProcessRecord.unshared()!
        defer { record.unmap() }
        record.begin(program: "shop")
        var life = LifeRecord(record)
        let module = try #require(life.modules.first { $0.path == ProcessRecord.executable })
        // A function of this program.
        let function: @convention(c) () -> Int32 = { 5 }
        let address = UInt64(unsafeBitCast(function, to: UInt.self))
        try #require(module.range.contains(address))
        var names = FrameNames(life)
        #expect(names.frames(at: [address]).first?.offset == address - module.bias)
        let name = names.frames(at: [address]).last?.function
        #expect(name?.contains("aFileThatChangedSinceIsNotAskedForNames") ?? false, "\(name ?? "none")")
        // Before the file was made.
        life.startTime = WallTime(nanoseconds: 1)
        names = FrameNames(life)
        #expect(names.frames(at: [address]).map(\.function) == [nil])
        #expect(names.frames(at: [1]) == [NamedFrame(address: 1)])
    }
}
