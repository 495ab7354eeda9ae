// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import Fort

@Suite struct ActivatedSocketsTests {
    private static func read(_ pid: String?, _ count: String?, _ names: String?) -> Result<[String], ActivationError> {
        Result { () throws(ActivationError) in
            try ActivatedSockets.read(pid: pid, count: count, names: names, own: 42).sockets.map {
                "\($0.descriptor) \($0.name)"
            }
        }
    }

    @Test(
        arguments: [
            (nil, nil, nil, []), ("42", nil, nil, []), (nil, "1", nil, []), ("42", "0", nil, []),
            ("42", "0", "x:y", []),
            ("41", "2", "a:b", []), ("41", "many", nil, []), ("42", "1", nil, ["3 unknown"]),
            ("42", "2", nil, ["3 unknown", "4 unknown"]),
            ("42", "2", "http:admin", ["3 http", "4 admin"]), ("42", "3", "a::a", ["3 a", "4 ", "5 a"]),
        ] as [(String?, String?, String?, [String])]
    )
    func socketsHaveTheirNumbersAndNames(_ pid: String?, _ count: String?, _ names: String?, _ expected: [String]) {
        #expect(Self.read(pid, count, names) == .success(expected))
    }

    @Test(
        arguments: [
            ("x", "1", nil, "LISTEN_PID must be the number of a process, got 'x'"),
            ("0", "1", nil, "LISTEN_PID must be the number of a process, got '0'"),
            ("42", "x", nil, "LISTEN_FDS must be a number from 0 to 4096, got 'x'"),
            ("42", "-1", nil, "LISTEN_FDS must be a number from 0 to 4096, got '-1'"),
            ("42", "4097", nil, "LISTEN_FDS must be a number from 0 to 4096, got '4097'"),
            ("42", "1", "a:b", "LISTEN_FDNAMES must have as many names as LISTEN_FDS says, 1, got 2: 'a:b'"),
            ("42", "2", "a", "LISTEN_FDNAMES must have as many names as LISTEN_FDS says, 2, got 1: 'a'"),
        ] as [(String?, String?, String?, String)]
    )
    func whatIsWrongIsSaid(_ pid: String?, _ count: String?, _ names: String?, _ expected: String) {
        #expect(Self.read(pid, count, names) == .failure(ActivationError(description: expected)))
    }

    @Test(
        arguments: [
            ("127.0.0.1", 80, "127.0.0.1", 80, true), ("127.0.0.1", 80, "127.0.0.1", 81, false),
            ("127.0.0.1", 80, "127.0.0.2", 80, false), ("0.0.0.0", 80, "::", 80, true), ("::", 80, "0.0.0.0", 80, true),
            ("::1", 80, "0:0::1", 80, true), ("::ffff:127.0.0.1", 80, "127.0.0.1", 80, true),
            ("0.0.0.0", 80, "127.0.0.1", 80, false),
        ] as [(String, UInt16, String, UInt16, Bool)]
    )
    func anAddressServesTheSame(
        _ host: String,
        _ port: UInt16,
        _ wanted: String,
        _ wantedPort: UInt16,
        _ expected: Bool
    ) throws {
        let address = try #require(BoundAddress(host: host, port: port))
        #expect(address.serves(try #require(BoundAddress(host: wanted, port: wantedPort))) == expected)
        #expect(!address.serves(BoundAddress(path: "/x")))
        #expect(BoundAddress(host: "localhost", port: 80) == nil)
    }

    private static func listener(_ family: Int32, _ bytes: [UInt8], listens: Bool = true) -> CInt {
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
        let status = bytes.withUnsafeBytes { bytes in
            bind(descriptor, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
        }
        precondition(status == 0 && (!listens || listen(descriptor, 1) == 0), "no listener: \(errno)")
        return descriptor
    }

    private static func bytes<Address>(_ address: Address, _ count: Int = MemoryLayout<Address>.size) -> [UInt8] {
        withUnsafeBytes(of: address) { Array($0.prefix(count)) }
    }

    /// In a process of its own: the environment and the descriptors are the program's.
    @Test func passedSocketsAreTakenAndFound() async {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardOutputContent]) {
            var four = sockaddr_in()
            four.sin_family = sa_family_t(AF_INET)
            four.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var unix = sockaddr_un()
            unix.sun_family = sa_family_t(AF_UNIX)
            let name = "\0bastion-activated-\(getpid())"
            withUnsafeMutableBytes(of: &unix.sun_path) { $0.copyBytes(from: name.utf8) }
            let first: CInt = 200
            let made = [
                Self.listener(AF_INET, Self.bytes(four), listens: false), Self.listener(AF_INET, Self.bytes(four)),
                Self.listener(AF_UNIX, Self.bytes(unix, 2 + name.utf8.count)),
            ]
            for (index, descriptor) in made.enumerated() { dup2(descriptor, first + CInt(index)) }
            setenv("LISTEN_PID", "\(getpid())", 1)
            setenv("LISTEN_FDS", "3", 1)
            setenv("LISTEN_FDNAMES", "idle:http:admin", 1)
            do {
                let sockets = try ActivatedSockets.take(from: first)
                report("\(sockets.sockets.map { "\($0.descriptor) \($0.name)" })")
                report("\(sockets.named("admin")?.descriptor ?? -1) \(sockets.named("other")?.descriptor ?? -1)")
                guard case .ip(_, let port)? = BoundAddress(of: first + 1),
                    let here = BoundAddress(host: "127.0.0.1", port: port)
                else { return report("no address") }
                report("\(sockets.bound(to: here)?.descriptor ?? -1)")
                report("\(sockets.bound(to: BoundAddress(path: "@" + name.dropFirst()))?.descriptor ?? -1)")
                // Bound, but it does not listen.
                guard let idle = BoundAddress(of: first) else { return report("no address") }
                report("\(sockets.bound(to: idle)?.descriptor ?? -1)")
                report("\((0..<3).map { fcntl(first + $0, F_GETFD) & FD_CLOEXEC })")
                let variables: [String] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]
                report("\(variables.map { ServiceManager.text(of: $0) == nil })")
                report("\(try ActivatedSockets.take(from: first).sockets.count)")
                setenv("LISTEN_PID", "\(getpid())", 1)
                setenv("LISTEN_FDS", "4", 1)
                _ = try ActivatedSockets.take(from: first)
            } catch {
                report("\(error)")
            }
        }
        let lines = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self).split(separator: "\n")
        #expect(
            lines == [
                #"["200 idle", "201 http", "202 admin"]"#, "202 -1", "201", "202", "-1", "[1, 1, 1]",
                "[true, true, true]",
                "0", "LISTEN_FDS says that there are 4 sockets, but descriptor 203 ('unknown') is not open",
            ]
        )
    }
}
