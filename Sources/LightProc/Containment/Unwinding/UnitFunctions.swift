// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// The functions of one compilation unit by their addresses.
///
/// libdw has `dwarf_getscopes` for this, but it looks only where C and C++ put functions: Swift's
/// compiler puts them into the entries of modules and types, which have no addresses of their own.
struct UnitFunctions {
    private struct Function {
        let start: UInt
        let end: UInt
        let die: crt_dwarfDie
    }

    /// Sorted by start. Addresses are those of the file.
    private var functions: [Function] = []
    /// The longest function, which bounds how far below an address its function can start.
    private var longest: UInt = 0

    init(of unit: UnsafeMutablePointer<crt_dwarfDie>, _ library: DwarfLibrary) {
        collect(below: unit.pointee, library, depth: 0)
        functions.sort { $0.start < $1.start }
    }

    /// The function that has the code at an address and the functions inlined there, outermost first.
    func scopes(at address: UInt, _ library: DwarfLibrary) -> [crt_dwarfDie] {
        guard let function = function(at: address) else { return [] }
        var scopes = [function]
        var scope = function
        // Ends: every turn goes one level deeper into a finite tree.
        while let inner = child(of: scope, at: address, library) {
            scope = inner
            if library.functions.tag(&scope) == DwarfTag.inlinedSubroutine { scopes.append(scope) }
        }
        return scopes
    }

    private func function(at address: UInt) -> crt_dwarfDie? {
        var (low, high) = (0, functions.count)
        while low < high {
            let middle = (low + high) / 2
            if functions[middle].start <= address { low = middle + 1 } else { high = middle }
        }
        while low > 0, address - functions[low - 1].start < longest {
            if address < functions[low - 1].end { return functions[low - 1].die }
            low -= 1
        }
        return nil
    }

    /// The block or inlined function inside a scope that an address belongs to.
    private func child(of scope: crt_dwarfDie, at address: UInt, _ library: DwarfLibrary) -> crt_dwarfDie? {
        var (parent, child) = (scope, crt_dwarfDie())
        var result = library.functions.firstChild(&parent, &child)
        while result == 0 {
            let tag = library.functions.tag(&child)
            if tag == DwarfTag.inlinedSubroutine || tag == DwarfTag.lexicalBlock,
                library.functions.hasAddress(&child, address) == 1
            {
                return child
            }
            var next = crt_dwarfDie()
            result = library.functions.nextSibling(&child, &next)
            child = next
        }
        return nil
    }

    private mutating func collect(below parent: crt_dwarfDie, _ library: DwarfLibrary, depth: Int) {
        var (parent, child) = (parent, crt_dwarfDie())
        guard depth < 64, library.functions.firstChild(&parent, &child) == 0 else { return }
        repeat {
            if library.functions.tag(&child) == DwarfTag.subprogram { append(child, library) }
            collect(below: child, library, depth: depth + 1)
            var next = crt_dwarfDie()
            guard library.functions.nextSibling(&child, &next) == 0 else { return }
            child = next
        } while true
    }

    private mutating func append(_ function: crt_dwarfDie, _ library: DwarfLibrary) {
        var die = function
        var (place, base, start, end) = (0, UInt(0), UInt(0), UInt(0))
        while true {
            place = library.functions.nextRange(&die, place, &base, &start, &end)
            // Zero after the last range, negative for a declaration, which has none.
            guard place > 0 else { return }
            // A start of zero is a function that the linker threw away.
            guard start > 0, end > start else { continue }
            functions.append(Function(start: start, end: end, die: function))
            longest = max(longest, end - start)
        }
    }
}

/// Numbers of the DWARF standard.
enum DwarfTag {
    static let lexicalBlock: Int32 = 0x0b
    static let inlinedSubroutine: Int32 = 0x1d
    static let subprogram: Int32 = 0x2e
}
