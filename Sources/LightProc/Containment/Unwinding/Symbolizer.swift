// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Names the instructions of this process: function, object, and where debug information exists file,
/// line, inlined functions and the kind of an optimised trap.
///
/// Reads the symbol tables of the files and, if the system has it, uses elfutils' libdw. Tables are kept, answers
/// are not. It allocates, reads files and asks the loader, so it belongs to one normal thread and is
/// used only once the parked thread is known to hold no lock of the allocator or the loader. Make it at
/// start-up, while the program is well.
package final class Symbolizer {
    /// What is known about one instruction.
    package struct Symbol: Sendable {
        package let address: UInt
        /// The path of the executable or library, nil where none is mapped.
        package var object: String?
        /// The address in the file's own numbering, as `addr2line` takes it.
        package var addressInFile: UInt?
        /// The linker's name of the function that has the code.
        package var mangledName: String?
        /// How far into that function the instruction is.
        package var offset: UInt?
        /// Innermost first: the functions inlined at the instruction, and last the one that has the code.
        /// Empty only where not even a name is known.
        package var locations: [SourceLocation] = []
        /// "Index out of range" and the like at a trap that the compiler put there.
        package var runtimeFailure: String?
    }

    private var objects = ObjectList()
    private var symbolTables: [String: ObjectSymbols?] = [:]
    private var debugInformation = DebugInformation()

    package init() {}

    /// Whether the system has libdw, on which file, line, inlined functions and trap kinds depend.
    package var hasDebugInformation: Bool { debugInformation != nil }

    package func symbol(of frame: StackWalker.Frame) -> Symbol {
        symbol(at: frame.lookupAddress)
    }

    /// - Parameter address: inside the instruction, as `StackWalker.Frame.lookupAddress` is.
    package func symbol(at address: UInt) -> Symbol {
        var symbol = Symbol(address: address)
        guard let object = object(containing: address) else { return symbol }
        symbol.object = object.path.isEmpty ? executable : object.path
        symbol.addressInFile = address &- object.bias
        if let table = symbolTable(of: object), let function = table.function(containing: address &- object.bias) {
            symbol.mangledName = table.name(of: function)
            symbol.offset = address &- object.bias &- function.address
        }
        if let answer = debugInformation?.answer(for: address) {
            symbol.locations = answer.locations
            symbol.runtimeFailure = answer.runtimeFailure
        }
        if symbol.locations.last?.isInlined ?? true, let name = symbol.mangledName {
            symbol.locations.append(SourceLocation(function: SwiftName.demangled(name), isInlined: false))
        }
        return symbol
    }

    /// What the trap instruction at an address stands for: "Index out of range", "arithmetic overflow" and the like.
    ///
    /// - Returns: Nil if it is not a trap of the compiler's, or there is no debug information or no libdw.
    package func runtimeFailure(at address: UInt) -> String? {
        symbol(at: address).runtimeFailure
    }

    private func object(containing address: UInt) -> ObjectList.Entry? {
        if let object = objects.entry(containing: address) { return object }
        // Perhaps it was loaded after we looked.
        guard LoadedObject.exists(at: address) else { return nil }
        objects = ObjectList()
        return objects.entry(containing: address)
    }

    private func symbolTable(of object: ObjectList.Entry) -> ObjectSymbols? {
        let path = object.path.isEmpty ? Self.ownFile : object.path
        if let table = symbolTables[path] { return table }
        let table = ObjectSymbols(path: path)
        symbolTables[path] = .some(table)
        return table
    }

    /// Leads to the executable even if its file was moved or replaced.
    private static let ownFile = "/proc/self/exe"

    /// Where the executable lies, for reports.
    private let executable: String = {
        guard let path = realpath(ownFile, nil) else { return ownFile }
        defer { free(path) }
        return String(cString: path)
    }()
}
