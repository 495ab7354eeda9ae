// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc

/// One place in the code, as a report lists it.
struct NamedFrame: Sendable, Equatable {
    var address: UInt64
    /// The path of the executable or library; nil if the address lies in none.
    var module: String?
    /// The address in the file's own numbering, as `addr2line` takes it.
    var offset: UInt64?
    var function: String?
    var file: String?
    var line: Int?
    var isInlined = false

    /// As in `Shop.price(of:) at Shop.swift:12`.
    var text: String {
        var text = "\(isInlined ? "[inlined] " : "")\(function ?? "?")"
        if let file {
            text += " at \(file)\(line.map { ":\($0)" } ?? "")"
        } else if let module {
            text += " in \(module)\(offset.map { " 0x" + String($0, radix: 16) } ?? "")"
        } else {
            text += " 0x\(String(address, radix: 16))"
        }
        return text
    }

    var json: JSON {
        .object([
            ("address", .address(address)), ("module", .optional(module)),
            ("offset", offset.map { .address($0) } ?? .null),
            ("function", .optional(function)), ("file", .optional(file)), ("line", .optional(line)),
            ("inlined", .bool(isInlined)),
        ])
    }
}

/// Names the instructions of a program that is no more, from the files that it ran.
///
/// A file that was changed since that program began is not asked: it would give wrong names. What this process has loaded from
/// the same file is asked as its own, which knows lines; of other files the symbol table is read. Milliseconds for each new
/// address; not on a worker.
struct FrameNames {
    private let modules: [ProcessRecord.Module]
    private let started: WallTime
    private let own = ObjectList()
    private var tables: [String: ObjectSymbols?] = [:]

    init(_ life: LifeRecord) {
        modules = life.modules
        started = life.startTime
    }

    /// Of a contained trap of this program, which are looked up already.
    static func frames(of report: TrapReport, _ modules: [ProcessRecord.Module]) -> [NamedFrame] {
        report.frames().map { frame in
            let module = modules.first { $0.range.contains(UInt64(frame.address)) }
            return NamedFrame(
                address: UInt64(frame.address),
                module: frame.object,
                offset: module.map { UInt64(frame.address) &- $0.bias },
                function: frame.function,
                file: frame.file,
                line: frame.line,
                isInlined: frame.isInlined
            )
        }
    }

    mutating func frames(at addresses: [UInt64]) -> [NamedFrame] { addresses.flatMap { frames(at: $0) } }

    private mutating func frames(at address: UInt64) -> [NamedFrame] {
        guard let module = modules.first(where: { $0.range.contains(address) }) else {
            return [NamedFrame(address: address)]
        }
        let offset = address &- module.bias
        let plain = NamedFrame(address: address, module: module.path, offset: offset)
        guard isUnchanged(module.path) else { return [plain] }
        if let object = own.entries.first(where: {
            ($0.path.isEmpty ? ProcessRecord.executable : $0.path) == module.path
        }) {
            return TrapReport.frames(of: [UInt(offset) &+ object.bias]).map { frame in
                var named = plain
                named.function = frame.function
                named.file = frame.file
                named.line = frame.line
                named.isInlined = frame.isInlined
                return named
            }
        }
        var named = plain
        if let table = table(module.path), let function = table.function(containing: UInt(offset)) {
            named.function = SwiftName.demangled(table.name(of: function))
        }
        return [named]
    }

    private func isUnchanged(_ path: String) -> Bool {
        var status = stat()
        guard path.hasPrefix("/"), stat(path, &status) == 0 else { return false }
        let change = status.st_ctim
        return Int64(change.tv_sec) * 1_000_000_000 + Int64(change.tv_nsec) <= started.nanoseconds
    }

    private mutating func table(_ path: String) -> ObjectSymbols? {
        if let table = tables[path] { return table }
        let table = ObjectSymbols(path: path)
        tables[path] = .some(table)
        return table
    }
}
