// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// Answers where in the source an address is, with the functions that were inlined there.
///
/// Belongs to one thread; see `DwarfLibrary`.
struct DebugInformation {
    /// What the debug information says about one instruction.
    struct Answer {
        /// Innermost first; the last is the function that has the code.
        var locations: [SourceLocation] = []
        /// What the trap at this instruction would report, if it is one of the compiler's.
        var runtimeFailure: String?
    }

    private let library: DwarfLibrary
    /// Found once per compilation unit; the library keeps a unit at its address.
    private var units: [Die: UnitFunctions] = [:]
    private typealias Die = UnsafeMutablePointer<crt_dwarfDie>

    /// Nil if the system has no libdw.
    init?() {
        guard let library = DwarfLibrary() else { return nil }
        self.library = library
    }

    mutating func answer(for address: UInt) -> Answer {
        var answer = Answer()
        guard let module = library.module(containing: address),
            let (unit, bias) = library.unit(of: address, in: module)
        else { return answer }
        var place = place(of: address &- bias, in: unit)
        // Innermost first, so that each inlined function says where the next one stands.
        for scope in functions(of: unit).scopes(at: address &- bias, library).reversed() {
            var die = scope
            if let failure = runtimeFailure(&die) {
                answer.runtimeFailure = failure
            } else if let name = name(of: &die) {
                let isInlined = library.functions.tag(&die) == DwarfTag.inlinedSubroutine
                answer.locations.append(
                    SourceLocation(
                        function: name,
                        file: place.file,
                        line: place.line,
                        column: place.column,
                        isInlined: isInlined
                    )
                )
            }
            place = callPlace(of: &die, unit: unit)
        }
        return answer
    }

    private mutating func functions(of unit: Die) -> UnitFunctions {
        if let functions = units[unit] { return functions }
        let functions = UnitFunctions(of: unit, library)
        units[unit] = functions
        return functions
    }

    private typealias Place = (file: String?, line: Int?, column: Int?)

    private func place(of address: UInt, in unit: Die) -> Place {
        var (line, column): (Int32, Int32) = (0, 0)
        guard let row = library.functions.lineAt(unit, address),
            library.functions.lineNumber(row, &line) == 0,
            let path = library.functions.linePath(row, nil, nil)
        else { return (nil, nil, nil) }
        guard line > 0, !isMadeUp(path) else { return (nil, nil, nil) }
        let hasColumn = library.functions.lineColumn(row, &column) == 0 && column > 0
        return (String(cString: path), Int(line), hasColumn ? Int(column) : nil)
    }

    /// Code of the compiler's own, as thunks are, stands at this name or at line 0.
    private func isMadeUp(_ path: UnsafePointer<CChar>) -> Bool {
        strcmp(path, "<compiler-generated>") == 0
    }

    /// Where an inlined function was called.
    private func callPlace(of die: Die, unit: Die) -> Place {
        guard let line = number(Attribute.callLine, of: die), line > 0 else { return (nil, nil, nil) }
        let column = number(Attribute.callColumn, of: die).flatMap { $0 == 0 ? nil : $0 }
        var files: UnsafeMutableRawPointer?
        var count = 0
        guard let index = number(Attribute.callFile, of: die),
            library.functions.sourceFiles(unit, &files, &count) == 0, index < count,
            let path = library.functions.sourcePath(files, index, nil, nil)
        else { return (nil, line, column) }
        guard !isMadeUp(path) else { return (nil, nil, nil) }
        return (String(cString: path), line, column)
    }

    private func runtimeFailure(_ die: Die) -> String? {
        guard let name = library.functions.name(die) else { return nil }
        let prefix = "Swift runtime failure: "
        guard strncmp(name, prefix, prefix.utf8.count) == 0 else { return nil }
        return String(cString: name + prefix.utf8.count)
    }

    private func name(of die: Die) -> String? {
        var attribute = crt_dwarfAttribute()
        if library.functions.attribute(die, Attribute.linkageName, &attribute) != nil,
            let mangled = library.functions.string(&attribute)
        {
            return SwiftName.demangled(mangled)
        }
        return library.functions.name(die).map { String(cString: $0) }
    }

    private func number(_ code: UInt32, of die: Die) -> Int? {
        var attribute = crt_dwarfAttribute()
        var value: UInt = 0
        guard library.functions.attribute(die, code, &attribute) != nil,
            library.functions.number(&attribute, &value) == 0
        else { return nil }
        return Int(truncatingIfNeeded: value)
    }

    /// Numbers of the DWARF standard.
    private enum Attribute {
        static let callColumn: UInt32 = 0x57
        static let callFile: UInt32 = 0x58
        static let callLine: UInt32 = 0x59
        static let linkageName: UInt32 = 0x6e
    }
}
