// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

internal import Glibc

/// Small text files below a root directory: the only door through which the topology part reads `/proc` and `/sys`.
///
/// With the root `"/"` it reads this machine, with another one a directory made up for a test.
package struct FileTree: Sendable {
    /// The directory that stands for `/`.
    package let root: String

    package init(root: String = "/") { self.root = root }

    /// Returns the contents of the file, or `nil` if it cannot be read; what is not UTF-8 is repaired.
    package func text(at path: String) -> String? {
        guard let bytes = try? Self.bytes(ofFile: root == "/" ? path : root + path, limit: 1 << 22) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Reads a whole file.
    ///
    /// - Throws: `unreadableFile` with the reason, also for a directory and for a file of more than `limit` bytes.
    package static func bytes(ofFile path: String, limit: Int) throws(TopologyError) -> [UInt8] {
        func failure(_ number: Int32) -> TopologyError {
            let reason =
                switch number {
                case ENOENT, ENOTDIR: "no such file; check the path"
                case EACCES, EPERM: "permission denied; make it readable for this user"
                case EISDIR: "it is a directory; name a file in it"
                default: systemMessage(number)
                }
            return TopologyError(.unreadableFile, "cannot read '\(path)': \(reason)", errno: number)
        }
        // O_NONBLOCK: opening a FIFO must not hang; it has no meaning for regular files.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw failure(errno) }
        defer { close(descriptor) }
        var contents: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            // safety: the kernel writes at most chunk.count bytes into the array's storage.
            let count = chunk.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }  // Ends: each retry needs another signal.
                throw failure(errno)
            }
            if count == 0 { return contents }
            contents.append(contentsOf: chunk[..<count])
            guard contents.count <= limit else {
                throw TopologyError(
                    .unreadableFile,
                    "cannot read '\(path)': it has more than \(limit) bytes, this is no topology",
                    errno: EFBIG
                )
            }
        }
    }
}

/// Returns the system's words for an `errno`.
package func systemMessage(_ number: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    // safety: strerror_r writes at most the given number of bytes, a terminating zero included.
    guard strerror_r(number, &buffer, buffer.count) == 0 else { return "error \(number)" }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}
