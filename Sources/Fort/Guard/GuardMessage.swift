// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What a program tells its guard, as bytes. Pure.
enum GuardMessage: Equatable {
    /// It has come so far; see `ProgramState.Stage`.
    case stage(UInt8)
    /// Another one is to take its place.
    case replacement
    /// It wants a descriptor of a socket that listens.
    case listen(ListenRequest)
    /// It wants that socket no more.
    case giveBack(name: String)
    /// It has asked for all the sockets that it wants.
    case settled
    /// It lacks something, and ends: so would another one.
    case lacksSomething

    /// No message is longer.
    static let byteLimit = 512

    var bytes: [UInt8] {
        switch self {
        case .stage(let stage): [1, stage]
        case .replacement: [2]
        case .listen(let request):
            [3, UInt8(truncatingIfNeeded: request.backlog), UInt8(truncatingIfNeeded: request.backlog >> 8)]
                + [UInt8(request.address.count)] + request.address + Array(request.name.utf8)
        case .giveBack(let name): [4] + Array(name.utf8)
        case .settled: [5]
        case .lacksSomething: [6]
        }
    }

    /// Nil if they are none.
    init?(_ bytes: some Collection<UInt8>) {
        let bytes = Array(bytes)
        switch bytes.first {
        case 1 where bytes.count == 2: self = .stage(bytes[1])
        case 2 where bytes.count == 1: self = .replacement
        case 3 where bytes.count >= 4 && bytes.count >= 4 + Int(bytes[3]):
            let end = 4 + Int(bytes[3])
            self = .listen(
                ListenRequest(
                    name: String(decoding: bytes[end...], as: UTF8.self),
                    address: Array(bytes[4..<end]),
                    backlog: Int(bytes[1]) | Int(bytes[2]) << 8
                )
            )
        case 4: self = .giveBack(name: String(decoding: bytes[1...], as: UTF8.self))
        case 5 where bytes.count == 1: self = .settled
        case 6 where bytes.count == 1: self = .lacksSomething
        default: return nil
        }
    }
}

/// A socket that is to listen.
struct ListenRequest: Equatable {
    /// Who asks for the same name gets the same socket; as in `127.0.0.1:8080`. At most 200 bytes.
    var name: String
    /// A `sockaddr` of its family; empty for a socket that must be there already.
    var address: [UInt8]
    /// How many connections may wait to be accepted; at most 65,535.
    var backlog: Int
}
