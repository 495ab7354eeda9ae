// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The command line, understood.
struct CommandOptions {
    enum Source {
        case thisMachine
        case xml(String)
        case synthetic(String)
    }

    private(set) var source = Source.thisMachine
    private(set) var printsJSON = false
    private(set) var workerCount: Int?
    private(set) var showsHelp = false

    static let usage = """
        usage: topology [--xml FILE | --synthetic TEXT] [--json] [--workers N]

        Prints this machine, or the given one, and where the workers of Bastion's executor sit on it.

          --xml FILE        a machine that 'lstopo FILE.xml' saved
          --synthetic TEXT  a made-up machine, such as "pack:2 numa:1 l3:2 core:4 pu:2"
          --workers N       plan N workers; default: one per usable PU, limited by the CPU quota
          --json            print the plan for programs (docs/topology-json.md)
        """

    /// - Throws: a failure with status 64 for what is no option, lacks its value, or contradicts another option.
    init(_ arguments: ArraySlice<String>) throws(Failure) {
        var rest = arguments
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let name = argument.hasPrefix("--") ? parts[0] : argument
            let inlined = argument.hasPrefix("--") && parts.count == 2 ? parts[1] : nil
            switch name {
            case "--xml":
                try choose(.xml(Self.value(of: name, inlined, &rest)))
            case "--synthetic":
                try choose(.synthetic(Self.value(of: name, inlined, &rest)))
            case "--workers":
                let text = try Self.value(of: name, inlined, &rest)
                guard let count = Int(text), count >= 1 else {
                    throw Failure(usage: "--workers needs a number of at least 1, got '\(text)'")
                }
                workerCount = count
            case "--json" where inlined == nil: printsJSON = true
            case "--help" where inlined == nil, "-h": showsHelp = true
            default:
                throw Failure(usage: "unknown option '\(argument)'; topology --help lists the options")
            }
        }
    }

    private mutating func choose(_ new: Source) throws(Failure) {
        guard case .thisMachine = source else {
            throw Failure(usage: "--xml and --synthetic each name a machine; give only one of them, once")
        }
        source = new
    }

    private static func value(
        of option: String,
        _ inlined: String?,
        _ rest: inout ArraySlice<String>
    ) throws(Failure) -> String {
        guard let value = inlined ?? rest.popFirst(), !value.isEmpty else {
            throw Failure(usage: "\(option) needs a value; topology --help shows an example")
        }
        return value
    }
}
