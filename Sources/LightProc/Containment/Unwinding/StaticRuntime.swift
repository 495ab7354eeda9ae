// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Finds the Swift runtime in an executable that it is linked into, by the symbol table of the file.
///
/// In a stripped file there is nothing to find: the runtime then counts as part of the program.
struct StaticRuntime {
    /// Functions that make metadata under the runtime's locks. What lies between those of one group
    /// counts too: it is their private part. Left out between the groups is what assigns and destroys
    /// existentials, for that runs `deinit`s of the program.
    static let metadataGroups: [[StaticString]] = [
        [
            "swift_getCanonicalSpecializedMetadata", "swift_getGenericMetadata", "swift_getSingletonMetadata",
            "swift_getFunctionTypeMetadata", "swift_getFixedArrayTypeMetadata", "swift_getTupleTypeMetadata",
            "swift_initStructMetadata", "swift_initClassMetadata2",
        ],
        ["swift_getMetatypeMetadata", "swift_getExistentialMetatypeMetadata"],
        ["swift_getExistentialTypeMetadata"],
        ["swift_getExtendedExistentialTypeShape", "swift_getExtendedExistentialTypeMetadata"],
        ["swift_getForeignTypeMetadata"],
        ["swift_getWitnessTable", "swift_getAssociatedTypeWitness", "swift_checkMetadataState"],
        ["swift_getTypeByMangledName", "swift_getTypeByMangledNode", "swift_getOpaqueTypeMetadata"],
        ["swift_conformsToProtocol", "swift_conformsToProtocol2", "swift_conformsToProtocolCommon"],
    ]

    private let symbols: ObjectSymbols?
    private let bias: UInt

    init(_ symbols: ObjectSymbols?, bias: UInt) {
        self.symbols = symbols
        self.bias = bias
    }

    func address(of name: StaticString) -> UInt? {
        symbols?.address(ofFunctionNamed: name).map { $0 &+ bias }
    }

    /// The runs of functions that belong to the runtime.
    ///
    /// The linker keeps the functions of one object file together, so a name that tells nothing (a C++
    /// function without a namespace of the runtime) belongs where its neighbour below belongs.
    func spans() -> CodeSpans {
        var spans = CodeSpans()
        guard let symbols else { return spans }
        var isRuntime = false
        for function in symbols.functions where function.size > 0 {
            isRuntime = symbols.withName(of: function) { belongsToRuntime($0) } ?? isRuntime
            guard isRuntime else { continue }
            let start = function.address &+ bias
            spans.append(start..<start &+ function.size, .swiftRuntime)
        }
        return spans
    }

    /// Nil where the name does not tell.
    private func belongsToRuntime(_ name: UnsafeRawBufferPointer) -> Bool? {
        func begins(_ prefix: StaticString) -> Bool {
            name.starts(with: UnsafeBufferPointer(start: prefix.utf8Start, count: prefix.utf8CodeUnitCount))
        }
        if begins("swift_") || begins("_swift_") || begins("_ZN5swift") || begins("_ZNK5swift") { return true }
        // The standard library's own module, and those of concurrency and synchronisation.
        if begins("$ss") || begins("$sSc") || begins("$s15Synchronization") { return true }
        if begins("_Z") { return nil }
        // Extensions of standard types carry their names, in the library as in specialisations elsewhere.
        if begins("$sS") { return nil }
        return false
    }
}
