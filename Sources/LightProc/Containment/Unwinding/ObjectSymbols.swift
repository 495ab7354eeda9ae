// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// The function symbols of one ELF file, sorted by address.
///
/// Reads the file's own symbol table, which also names what is not exported, and falls back to the
/// dynamic one in a stripped file. The file stays mapped as long as the value lives.
package final class ObjectSymbols {
    package struct Function {
        /// Address in the file's own numbering; in the process, add the object's load bias.
        package let address: UInt
        package let size: UInt
        fileprivate let name: Int
    }

    package private(set) var functions: [Function] = []
    private let file: UnsafeRawBufferPointer
    private var names = 0..<0

    /// Maps and reads a file; nil if it is not a 64-bit ELF file with a symbol table.
    package init?(path: String) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_size > 64,
            let base = mmap(nil, Int(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED
        else { return nil }
        file = UnsafeRawBufferPointer(start: base, count: Int(status.st_size))
        guard readSymbols() else { return nil }
    }

    deinit {
        munmap(UnsafeMutableRawPointer(mutating: file.baseAddress), file.count)
    }

    /// The function that an address of the file lies in.
    package func function(containing address: UInt) -> Function? {
        var (low, high) = (0, functions.count)
        while low < high {
            let middle = (low + high) / 2
            if functions[middle].address <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        let function = functions[low - 1]
        return address - function.address < max(function.size, 1) ? function : nil
    }

    /// The address of the function with a name, by a linear search.
    package func address(ofFunctionNamed wanted: StaticString) -> UInt? {
        functions.first { function in
            withName(of: function) { name in
                name.count == wanted.utf8CodeUnitCount
                    && name.elementsEqual(
                        UnsafeBufferPointer(start: wanted.utf8Start, count: wanted.utf8CodeUnitCount)
                    )
            }
        }?.address
    }

    /// The mangled name of a function.
    package func name(of function: Function) -> String {
        withName(of: function) { String(decoding: $0, as: UTF8.self) }
    }

    /// Gives the bytes of a function's mangled name to a closure.
    package func withName<Result>(of function: Function, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        let start = names.lowerBound + function.name
        guard start < names.upperBound else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        let rest = UnsafeRawBufferPointer(rebasing: file[start..<names.upperBound])
        guard let base = rest.baseAddress else { return body(rest) }
        // safety: strnlen stays within `rest`.
        let length = strnlen(base.assumingMemoryBound(to: CChar.self), rest.count)
        return body(UnsafeRawBufferPointer(rebasing: rest[0..<length]))
    }

    private func readSymbols() -> Bool {
        guard let header = load(Elf64_Ehdr.self, at: 0),
            file.starts(with: [0x7f, UInt8(ascii: "E"), UInt8(ascii: "L"), UInt8(ascii: "F"), 2])
        else { return false }
        var table: Elf64_Shdr?
        for index in 0..<Int(header.e_shnum) {
            guard let section = section(index, header) else { return false }
            if section.sh_type == UInt32(SHT_SYMTAB) { table = section }
            if section.sh_type == UInt32(SHT_DYNSYM) && table == nil { table = section }
        }
        guard let table, let strings = section(Int(table.sh_link), header),
            let symbols = range(of: table), let names = range(of: strings)
        else { return false }
        self.names = names
        let stride = MemoryLayout<Elf64_Sym>.stride
        functions.reserveCapacity(symbols.count / stride / 2)
        for offset in Swift.stride(from: symbols.lowerBound, to: symbols.upperBound - stride + 1, by: stride) {
            guard let symbol = load(Elf64_Sym.self, at: offset), symbol.st_shndx != 0 else { continue }
            // STT_FUNC and STT_GNU_IFUNC.
            guard symbol.st_info & 0xf == 2 || symbol.st_info & 0xf == 10 else { continue }
            functions.append(
                Function(address: UInt(symbol.st_value), size: UInt(symbol.st_size), name: Int(symbol.st_name))
            )
        }
        // Of several names at one address the longest body comes last, where the search finds it.
        functions.sort { ($0.address, $0.size) < ($1.address, $1.size) }
        return !functions.isEmpty
    }

    private func section(_ index: Int, _ header: Elf64_Ehdr) -> Elf64_Shdr? {
        guard let table = Int(exactly: header.e_shoff), table < file.count else { return nil }
        return load(Elf64_Shdr.self, at: table + index * MemoryLayout<Elf64_Shdr>.stride)
    }

    private func range(of section: Elf64_Shdr) -> Range<Int>? {
        guard let start = Int(exactly: section.sh_offset), let size = Int(exactly: section.sh_size),
            start <= file.count, size <= file.count - start
        else { return nil }
        return start..<start + size
    }

    private func load<Value: BitwiseCopyable>(_: Value.Type, at offset: Int) -> Value? {
        guard offset >= 0, offset <= file.count - MemoryLayout<Value>.size else { return nil }
        return file.loadUnaligned(fromByteOffset: offset, as: Value.self)
    }
}
