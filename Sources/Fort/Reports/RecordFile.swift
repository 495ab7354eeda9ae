// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// The records of programs without a guard: files in the report directory, `NAME-PID.dying`, each locked by its program as long as that
/// lives, whatever it dies of.
enum RecordFile {
    /// The record of a program that is no more.
    struct Found: Sendable {
        let path: String
        let life: LifeRecord
        /// Holds the lock, so that nobody else reports it. Closed by ``remove()``.
        fileprivate let descriptor: Int32

        /// Its report is written.
        func remove() {
            unlink(path)
            close(descriptor)
        }

        /// Its report cannot be written: another start may.
        func leave() {
            // To close it is not enough where another thread starts a program: that has the descriptor, too, for a moment.
            flock(descriptor, LOCK_UN)
            close(descriptor)
        }
    }

    static let ending = ".dying"

    /// Whether a file may be the record of a program. Pure.
    static func isRecord(_ name: String, of program: String) -> Bool {
        let program = ReportName.fileName(of: program)
        guard name.hasPrefix(program + "-"), name.hasSuffix(ending) else { return false }
        let parts = name.dropFirst(program.count + 1).dropLast(ending.count).split(
            separator: "-",
            omittingEmptySubsequences: false
        )
        return (1...2).contains(parts.count)
            && parts.allSatisfy { !$0.isEmpty && $0.utf8.allSatisfy { (0x30...0x39).contains($0) } }
    }

    private static func path(_ directory: String, _ program: String) -> String {
        "\(directory)/\(ReportName.fileName(of: program))-\(getpid())\(ending)"
    }

    /// Makes the record of this program and locks it. The descriptor stays open as long as the program lives; programs that it
    /// starts do not get it.
    ///
    /// - Parameter incarnation: Counted from 1.
    static func make(
        in directory: String,
        program: String,
        incarnation: Int
    ) throws(ReportDirectory.Failure) -> ProcessRecord {
        let final = path(directory, program)
        let temporary = "\(directory)/.\(ReportName.fileName(of: program))-\(getpid())\(ending).tmp"
        unlink(temporary)
        let descriptor = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw ReportDirectory.Failure(path: temporary, number: errno) }
        do throws(ReportDirectory.Failure) {
            // All of it, so that no later write to the memory finds the disk full, which would be a SIGBUS.
            let status = posix_fallocate(descriptor, 0, off_t(ProcessRecord.byteCount))
            guard status == 0 else { throw ReportDirectory.Failure(path: temporary, number: status) }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0, let record = ProcessRecord.map(descriptor) else {
                throw ReportDirectory.Failure(path: temporary, number: errno)
            }
            record.pointer.pointee.incarnation = UInt32(clamping: incarnation)
            record.begin(program: program)
            // Under its name only now that it is locked and says what it is.
            guard rename(temporary, final) == 0 else { throw ReportDirectory.Failure(path: final, number: errno) }
            return record
        } catch {
            unlink(temporary)
            close(descriptor)
            throw error
        }
    }

    /// Takes away the record of this program, which ends in order.
    static func removeOwn(in directory: String, program: String) { unlink(path(directory, program)) }

    /// Records of programs of the same name that are no more, the youngest last. Each is locked by this program from now on.
    static func findDead(in directory: String, program: String) -> [Found] {
        var found: [Found] = []
        for name in ReportDirectory.names(in: directory) where isRecord(name, of: program) {
            if let record = claim("\(directory)/\(name)") { found.append(record) }
        }
        return found.sorted { $0.life.startTime < $1.life.startTime }
    }

    private static func claim(_ path: String) -> Found? {
        let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { return nil }
        // Refused: its program lives, or another one that starts is about to report it.
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0, let record = ProcessRecord.map(descriptor), record.isValid,
            isLinked(descriptor)
        else {
            close(descriptor)
            return nil
        }
        let life = LifeRecord(record)
        record.unmap()
        // Its number may be this program's, as in a container, where all have 1: it makes way.
        var place = path
        if path.hasSuffix("-\(life.pid)\(ending)") {
            let other = "\(path.dropLast(ending.count))-\(life.startTime.nanoseconds)\(ending)"
            if rename(path, other) == 0 { place = other }
        }
        return Found(path: place, life: life, descriptor: descriptor)
    }

    /// Whether nobody has removed the file between our opening it and our locking it.
    private static func isLinked(_ descriptor: Int32) -> Bool {
        var status = stat()
        return fstat(descriptor, &status) == 0 && status.st_nlink > 0
    }
}
