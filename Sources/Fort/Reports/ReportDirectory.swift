// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Where reports are written, and how many stay there. Everything in it may wait for the disk.
struct ReportDirectory: Sendable {
    let path: String
    let limits: ReportLimits

    /// What went wrong: the file, and what the system says.
    struct Failure: Error, CustomStringConvertible {
        let path: String
        let number: Int32
        var description: String { "\(path): \(String(cString: strerror(number)))" }
        /// Whether it is no fault of the configuration.
        var mayPass: Bool { [ENOSPC, EDQUOT, EIO].contains(number) }
    }

    /// Makes the directory if it is missing (not those above it), and makes and removes a file in it.
    func check() throws(Failure) {
        if mkdir(path, 0o755) != 0, errno != EEXIST { throw Failure(path: path, number: errno) }
        let file = "\(path)/.bastion-\(getpid()).tmp"
        try write("check\n", to: file)
        unlink(file)
    }

    /// Writes both files of a report, and removes what is too much then. Each appears under its name when it is complete and on the
    /// disk.
    ///
    /// - Returns: The path of the JSON.
    @discardableResult
    func write(_ report: CrashReport) throws(Failure) -> String {
        // The text last: who waits for it finds both.
        let json = try write(report.json, as: report.name.stem + ".json")
        _ = try write(report.text, as: report.name.stem + ".txt")
        rotate(program: report.name.program)
        return json
    }

    private func write(_ text: String, as name: String) throws(Failure) -> String {
        let (final, temporary) = ("\(path)/\(name)", "\(path)/.\(name).tmp")
        do throws(Failure) {
            try write(text, to: temporary)
            if rename(temporary, final) != 0 { throw Failure(path: final, number: errno) }
        } catch {
            unlink(temporary)
            throw error
        }
        // Makes the new name last. A system that cannot do that with a directory (EINVAL) does it without being asked.
        let directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if directory >= 0 {
            fsync(directory)
            close(directory)
        }
        return final
    }

    private func write(_ text: String, to file: String) throws(Failure) {
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o640)
        guard descriptor >= 0 else { throw Failure(path: file, number: errno) }
        defer { close(descriptor) }
        var text = text
        let number = text.withUTF8 { bytes -> Int32 in
            var rest = UnsafeRawBufferPointer(bytes)
            while !rest.isEmpty {
                let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
                if count < 0, errno == EINTR { continue }
                // Of a file, 0 is no answer for more than 0 bytes.
                guard count > 0 else { return count == 0 ? EIO : errno }
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
            }
            return fsync(descriptor) == 0 ? 0 : errno
        }
        if number != 0 {
            unlink(file)
            throw Failure(path: file, number: number)
        }
    }

    /// Removes the oldest reports of a program, and what a program that was killed while it wrote has left: temporary files that
    /// are an hour old.
    private func rotate(program: String) {
        let names = Self.names(in: path)
        let files = names.filter { ReportName(file: $0) != nil }.compactMap { name -> (name: String, bytes: Int)? in
            var status = stat()
            return lstat("\(path)/\(name)", &status) == 0 ? (name, Int(status.st_size)) : nil
        }
        for name in ReportName.excess(of: files, program: program, limits: limits) { unlink("\(path)/\(name)") }
        for name in names where Self.finalName(ofTemporary: name)?.program == program {
            var status = stat()
            if lstat("\(path)/\(name)", &status) == 0, status.st_mtim.tv_sec + 3600 < time(nil) {
                unlink("\(path)/\(name)")
            }
        }
    }

    /// What the temporary file of a report would have become; nil if it is none.
    static func finalName(ofTemporary name: String) -> ReportName? {
        guard name.hasPrefix("."), name.hasSuffix(".tmp") else { return nil }
        return ReportName(file: String(name.dropFirst().dropLast(4)))
    }

    /// The names of what is in a directory; empty if it cannot be read.
    static func names(in path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            names.append(
                withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            )
        }
        return names.filter { $0 != "." && $0 != ".." }
    }
}
