// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// elfutils' libdw with a view of this process, opened at run time; the build does not need the library.
///
/// Belongs to one thread: the library has no locks of its own. It reads files and allocates, so it must
/// not be asked while a parked thread may hold the allocator's or the loader's lock.
final class DwarfLibrary {
    let functions: crt_dwarfFunctions
    private let session: UnsafeMutableRawPointer
    /// The library keeps a pointer to these.
    private let callbacks: UnsafeMutablePointer<crt_dwarfCallbacks>

    /// Opens the library; nil if the system has none.
    init?() {
        guard let library = dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL), let functions = Self.functions(of: library),
            let findElf = dlsym(library, "dwfl_linux_proc_find_elf"),
            // This one looks below /usr/lib/debug only; the standard one would ask servers on the network.
            let findDebugInformation = dlsym(library, "dwfl_build_id_find_debuginfo")
        else { return nil }
        callbacks = .allocate(capacity: 1)
        callbacks.initialize(
            to: crt_dwarfCallbacks(
                findElf: findElf,
                findDebugInformation: findDebugInformation,
                sectionAddress: nil,
                debugInformationPath: nil
            )
        )
        guard let session = functions.begin(callbacks) else {
            callbacks.deallocate()
            return nil
        }
        self.functions = functions
        self.session = session
        report()
    }

    deinit {
        functions.end(session)
        callbacks.deallocate()
    }

    /// The object an address lies in, with its debug information; nil for unmapped addresses.
    func module(containing address: UInt) -> UnsafeMutableRawPointer? {
        functions.moduleAt(session, address)
    }

    /// The compilation unit of an address, and what to subtract from addresses of the process in it.
    func unit(
        of address: UInt,
        in module: UnsafeMutableRawPointer
    )
        -> (die: UnsafeMutablePointer<crt_dwarfDie>, bias: UInt)?
    {
        var bias: UInt = 0
        if let unit = functions.unitAt(module, address, &bias) { return (unit, bias) }
        // The index that unitAt uses (.debug_aranges) is optional, and Swift's compiler writes none.
        var unit = functions.nextUnit(module, nil, &bias)
        // Ends: every turn takes the next unit of a finite file.
        while let candidate = unit {
            if functions.hasAddress(candidate, address &- bias) == 1 { return (candidate, bias) }
            unit = functions.nextUnit(module, candidate, &bias)
        }
        return nil
    }

    private func report() {
        // A failure leaves the session empty, and every question unanswered.
        _ = functions.reportProcess(session, getpid())
        _ = functions.reportEnd(session, nil, nil)
    }

    private static func functions(of library: UnsafeMutableRawPointer) -> crt_dwarfFunctions? {
        var functions = crt_dwarfFunctions()
        let isComplete = withUnsafeMutableBytes(of: &functions) { table in
            for (index, name) in names.enumerated() {
                guard let function = dlsym(library, name) else { return false }
                // safety: the struct holds function pointers only, in the order of `names`.
                table.storeBytes(of: function, toByteOffset: index * 8, as: UnsafeMutableRawPointer.self)
            }
            return names.count * 8 == table.count
        }
        return isComplete ? functions : nil
    }

    private static let names = [
        "dwfl_begin", "dwfl_linux_proc_report", "dwfl_report_end", "dwfl_end", "dwfl_addrmodule",
        "dwfl_module_addrdie", "dwfl_module_nextcu", "dwarf_haspc", "dwarf_ranges", "dwarf_child", "dwarf_siblingof",
        "dwarf_getsrc_die", "dwarf_linesrc", "dwarf_lineno", "dwarf_linecol", "dwarf_tag", "dwarf_diename",
        "dwarf_attr_integrate", "dwarf_formudata", "dwarf_formstring", "dwarf_getsrcfiles", "dwarf_filesrc",
    ]
}
