// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// The mapping of an executable or a shared library in this process.
package struct LoadedObject: Sendable, Equatable {
    package let start: UInt
    package let end: UInt

    package init(start: UInt, end: UInt) {
        self.start = start
        self.end = end
    }

    /// The object an address lies in.
    ///
    /// Takes no lock and allocates nothing with glibc 2.35 or later; before, it takes the loader's.
    package init?(containing address: UInt) {
        var mapping = crt_mapping()
        if crt_canFindMappings() {
            guard crt_findMapping(address, &mapping) else { return nil }
            self.init(start: mapping.start, end: mapping.end)
        } else {
            guard let object = Self.searchHeaders(for: address) else { return nil }
            self = object
        }
    }

    /// Whether any object is mapped at an address.
    package static func exists(at address: UInt) -> Bool {
        LoadedObject(containing: address) != nil
    }

    package func contains(_ address: UInt) -> Bool {
        address >= start && address < end
    }

    /// The addresses from an object's first loaded segment to the end of its last.
    init(_ headers: crt_objectHeaders) {
        var (start, end) = (UInt.max, UInt(0))
        for index in 0..<Int(headers.count) {
            // safety: the loader gives `count` program headers at `headers`.
            let header = headers.headers[index]
            guard header.p_type == UInt32(PT_LOAD) else { continue }
            let segment = headers.base &+ UInt(header.p_vaddr)
            start = min(start, segment)
            end = max(end, segment &+ UInt(header.p_memsz))
        }
        self.init(start: min(start, end), end: end)
    }

    private struct Search {
        let address: UInt
        var found: LoadedObject?
    }

    private static func searchHeaders(for address: UInt) -> LoadedObject? {
        var search = Search(address: address)
        withUnsafeMutablePointer(to: &search) { search in
            _ = crt_forEachObject(
                { headers, _, argument in
                    guard let headers, let search = argument?.assumingMemoryBound(to: Search.self) else { return 1 }
                    // safety: the loader's headers and our search are valid during the callback.
                    let object = LoadedObject(headers.pointee)
                    guard object.contains(search.pointee.address) else { return 0 }
                    search.pointee.found = object
                    return 1
                },
                search
            )
        }
        return search.found
    }
}
