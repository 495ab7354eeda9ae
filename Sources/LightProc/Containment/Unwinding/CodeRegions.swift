// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// Tells in which kind of code an address lies.
///
/// Made once at start-up on a normal thread; afterwards immutable. Asking allocates nothing and takes
/// no lock (with glibc 2.35), for the thread that is asked about may hold any. Objects that are loaded
/// later count as `.program`.
package struct CodeRegions: Sendable {
    /// Single functions and runs of functions; they come before the objects they lie in.
    private var functions = CodeSpans()
    /// The Swift runtime inside an executable that it is linked into.
    private var staticRuntime = CodeSpans()
    private var objects = CodeSpans()

    /// Resolves everything: a few milliseconds, more for a large executable with a static standard library.
    package init() {
        let list = ObjectList()
        let swiftOnce = unsafeBitCast(crt_swiftOnce as SwiftOnce, to: UInt.self)
        let runtimeHome = list.entry(containing: swiftOnce)
        let isStatic = runtimeHome?.object == list.executable?.object
        let symbols = isStatic ? ObjectSymbols(path: "/proc/self/exe") : nil
        addFunctions(list, runtime: StaticRuntime(symbols, bias: list.executable?.bias ?? 0))
        for entry in list.entries {
            objects.insert(entry.object.start..<entry.object.end, Self.origin(of: entry))
        }
        if let symbols, let bias = list.executable?.bias {
            staticRuntime = StaticRuntime(symbols, bias: bias).spans()
        }
    }

    /// The origin of a frame.
    package func origin(of frame: StackWalker.Frame) -> FrameOrigin {
        origin(of: frame.lookupAddress)
    }

    /// The origin of an instruction; give an address inside the instruction, not behind it.
    package func origin(of address: UInt) -> FrameOrigin {
        if let origin = functions.origin(of: address) { return origin }
        if let origin = staticRuntime.origin(of: address) { return origin }
        if let origin = objects.origin(of: address) { return origin }
        return LoadedObject.exists(at: address) ? .program : .unmapped
    }

    private typealias SwiftOnce =
        @convention(c) (
            UnsafeMutablePointer<Int>?, (@convention(c) (UnsafeMutableRawPointer?) -> Void)?, UnsafeMutableRawPointer?
        ) -> Void

    // MARK: Objects

    private static func origin(of entry: ObjectList.Entry) -> FrameOrigin {
        if entry.object.contains(getauxval(UInt(AT_BASE))), getauxval(UInt(AT_BASE)) != 0 { return .loader }
        if entry.object.contains(getauxval(UInt(AT_SYSINFO_EHDR))) { return .libc }
        let name = entry.name.prefix { $0 != "." }
        if ["libc", "libm", "libpthread", "librt"].contains(name) { return .libc }
        return runtimeLibraries.contains(String(name)) ? .swiftRuntime : .program
    }

    private static let runtimeLibraries: Set<String> = [
        "libswiftCore", "libswift_Concurrency", "libswift_StringProcessing", "libswift_RegexParser",
        "libswiftSynchronization", "libswiftObservation", "libswiftDistributed", "libswiftGlibc",
        "libswift_Builtin_float", "libswift_Volatile", "libswift_Differentiation", "libswiftRemoteMirror",
    ]

    // MARK: Functions

    private mutating func addFunctions(_ list: ObjectList, runtime: StaticRuntime) {
        addAllocator(list)
        for name: StaticString in [
            "dlopen", "dlmopen", "dlsym", "dlvsym", "dlclose", "dladdr", "dladdr1", "dlinfo", "dl_iterate_phdr",
        ] {
            add(name, .loader)
        }
        for name: StaticString in ["abort", "raise", "gsignal", "pthread_kill", "tgkill", "__libc_fatal"] {
            add(name, .libcAbort)
        }
        for span in OnceFunctions.learn() { functions.insert(span, .swiftOnce) }
        for name: StaticString in ["pthread_once", "dispatch_once", "dispatch_once_f"] { add(name, .swiftOnce) }
        addTaskStatus(runtime)
        for group in StaticRuntime.metadataGroups {
            addRun(of: group.compactMap { Self.address(of: $0) ?? runtime.address(of: $0) }, .swiftMetadata)
        }
    }

    /// What runs handlers under the lock of a task's status.
    private mutating func addTaskStatus(_ runtime: StaticRuntime) {
        func function(_ name: StaticString) -> Range<UInt>? {
            (Self.address(of: name) ?? runtime.address(of: name)).flatMap { FrameDescription(covering: $0)?.function }
        }
        if let escalate = function("swift_task_escalate") { functions.insert(escalate, .swiftTaskStatus) }
        guard let cancel = function("swift_task_cancel") else { return }
        functions.insert(cancel, .swiftTaskStatus)
        if let lock = CancellationFunctions.learn(from: cancel) { functions.insert(lock, .swiftTaskStatus) }
    }

    /// malloc and its relatives by their entries, which are on the stack whatever they call; except that
    /// some jump on (glibc's memalign, jemalloc's malloc). So in the C library all that lies between them
    /// counts, and an allocator's own library counts whole.
    private mutating func addAllocator(_ list: ObjectList) {
        let names: [StaticString] = [
            "malloc", "free", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc", "memalign",
            "valloc",
            "pvalloc", "malloc_trim", "malloc_usable_size", "mallinfo2", "malloc_stats", "malloc_info", "mallopt",
        ]
        let home = Self.address(of: "malloc").flatMap(list.entry(containing:))
        let addresses = names.flatMap(Self.addresses(of:)).filter { home?.object.contains($0) ?? false }
        switch home.map(Self.origin(of:)) {
        case .libc?: addRun(of: addresses, .allocator)
        case _? where home?.object != list.executable?.object:
            if let object = home?.object { functions.insert(object.start..<object.end, .allocator) }
        default: for address in addresses { add(functionAt: address, .allocator) }
        }
        for name: StaticString in [
            "_Znwm", "_Znam", "_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvm", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t",
            "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t", "_ZdlPvSt11align_val_t", "_ZdlPvmSt11align_val_t",
        ] {
            add(name, .allocator)
        }
    }

    private mutating func add(_ name: StaticString, _ origin: FrameOrigin) {
        for address in Self.addresses(of: name) { add(functionAt: address, origin) }
    }

    private mutating func add(functionAt address: UInt, _ origin: FrameOrigin) {
        guard let function = FrameDescription(covering: address)?.function else { return }
        functions.insert(function, origin)
    }

    /// Adds all that lies between the functions of one source file, whose order the linker keeps.
    private mutating func addRun(of addresses: [UInt], _ origin: FrameOrigin) {
        let spans = addresses.compactMap { FrameDescription(covering: $0)?.function }
        guard let start = spans.map(\.lowerBound).min(), let end = spans.map(\.upperBound).max() else { return }
        if end - start < 128 * 1024 {
            functions.insert(start..<end, origin)
        } else {
            // Not laid out as one file: take what is certain.
            for span in spans { functions.insert(span, origin) }
        }
    }

    /// The function that the program calls by this name.
    private static func address(of name: StaticString) -> UInt? { address(of: name.description, in: nil) }

    /// All functions that stand on the stack when the program calls one of the C library: that one, what was put in its
    /// place, and, in a program that was built with a sanitizer, what its replacement jumps to.
    private static func addresses(of name: StaticString) -> [UInt] {
        let addresses = [
            address(of: name), address(of: name.description, in: cLibrary),
            address(of: "__interceptor_\(name)", in: nil),
        ]
        return Array(Set(addresses.compactMap { $0 }))
    }

    private static func address(of name: String, in library: Library?) -> UInt? {
        dlsym(library?.handle, name).map(UInt.init(bitPattern:))
    }

    /// An object that is loaded and stays so.
    private struct Library: @unchecked Sendable {
        // Sendable: the handle is never closed, and the loader has locks of its own.
        let handle: UnsafeMutableRawPointer
    }

    /// Nil if the program is linked with its own: then there is no other.
    private static let cLibrary = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD).map(Library.init)
}
