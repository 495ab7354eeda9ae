// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Why nothing was found, or not what was asked for.
public struct LookupError: Error, Sendable, CustomStringConvertible {
    /// What is wrong; compare with the static members, more of which may be added.
    public struct Code: Hashable, Sendable {
        private let name: String
        /// Nothing lives there.
        public static let notFound = Code(name: "notFound")
        /// A supervisor is there, and no process.
        public static let noProcess = Code(name: "noProcess")
        /// A process is there, and no supervisor.
        public static let noSupervisor = Code(name: "noSupervisor")
        /// The process takes messages of another type.
        public static let wrongMessageType = Code(name: "wrongMessageType")
    }
    /// What is wrong, for programs.
    public let code: Code
    /// What is wrong, what lives nearby, and how to mend it, for humans.
    public let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}

/// Finding processes. What has ended for good is not found; one that is being restarted is. Keeps nothing alive.
extension BastionSystem {
    /// Finds the process at a path, as a taker of messages of a type.
    ///
    /// O(depth), and a lock each level. Where several have the same path, as trees may that are called alike, the one that was started first
    /// counts. Any thread.
    /// - Throws: `notFound`, and what lives nearest to it; `noProcess` where a supervisor is; `wrongMessageType` when the process is
    ///   reactive and takes another type.
    public func lookup<Message: Sendable>(
        _ path: ProcPath,
        of type: Message.Type = (any Sendable).self
    ) throws(LookupError) -> ProcRef<Message> {
        let place = try place(at: path)
        switch place {
        case .process(let record): return try Self.reference(to: record)
        case .system, .supervisor, .nest:
            throw LookupError(.noProcess, "\(path) is no process; \(place.description(in: self))")
        }
    }

    /// Finds the supervisor at a path, which has not ended.
    ///
    /// O(depth), and a lock each level; any thread, as for processes.
    /// - Throws: `notFound`, and what lives nearest to it; `noSupervisor` where a process is, or the system.
    public func supervisor(at path: ProcPath) throws(LookupError) -> SupervisorRef {
        let place = try place(at: path)
        switch place {
        case .supervisor(let supervisor): return SupervisorRef(supervisor: supervisor)
        case .nest(let nest): return SupervisorRef(nest: nest)
        case .system, .process: break
        }
        throw LookupError(.noSupervisor, "\(path) is no supervisor; \(place.description(in: self))")
    }

    private func place(at path: ProcPath) throws(LookupError) -> Place {
        var nearest = (place: Place.system, depth: 0)
        if let place = find(path.components[...], in: .system, depth: 0, &nearest) { return place }
        throw LookupError(.notFound, "nothing lives at \(path); \(nearest.place.description(in: self))")
    }

    /// Finds a supervised process by its id, as a taker of messages of a type. O(1). Any thread.
    ///
    /// Those that nobody supervises are found if they are async.
    /// - Throws: `notFound`; `wrongMessageType` when the process is reactive and takes another type.
    public func lookup<Message: Sendable>(
        _ id: ProcID,
        of type: Message.Type = (any Sendable).self
    ) throws(LookupError) -> ProcRef<Message> {
        guard let record = directory.process(id) else {
            throw LookupError(
                .notFound,
                "no supervised process of \(name) is \(id): it has ended for good, or nobody supervises it"
            )
        }
        return try Self.reference(to: record)
    }

    /// The path of a supervised process; nil if it has ended for good, or nobody supervises it. O(1). Any thread.
    public func path(of id: ProcID) -> ProcPath? {
        directory.process(id).flatMap { $0.path(of: $0.proc) }.flatMap(ProcPath.init)
    }

    private static func reference<Message>(to record: ChildRecord) throws(LookupError) -> ProcRef<Message> {
        if let taken = record.messageType, taken != Message.self {
            throw LookupError(.wrongMessageType, "\(record.proc) takes \(taken), not \(Message.self)")
        }
        return ProcRef(record.proc)
    }

    /// What can stand at a path.
    private enum Place {
        case system
        case supervisor(SupervisorCell)
        case nest(Nest)
        case process(ChildRecord)

        func description(in system: BastionSystem) -> String {
            let (what, below): (String, [String]) =
                switch self {
                case .system:
                    ("at the top", system.trees.map { $0.isOfSpawned ? $0.roster.someNames : $0.component })
                case .supervisor(let supervisor):
                    ("under the supervisor \(supervisor.path)", [supervisor.roster.someNames])
                case .nest(let nest):
                    ("under the supervisor \(nest.current.path)", [nest.current.roster.someNames])
                case .process(let record):
                    ("under the process \(record.path(of: record.proc) ?? "")", record.supervisors.map(\.component))
                }
            let names = below.filter { !$0.isEmpty }
            return "\(what) there is \(names.isEmpty ? "nothing" : names.joined(separator: ", "))"
        }

        func below(_ name: String, in system: BastionSystem) -> [Place] {
            switch self {
            case .system:
                return system.trees.compactMap { tree in
                    if tree.isOfSpawned { return tree.roster.child(name).map(Place.process) }
                    return tree.component == name ? .supervisor(tree) : nil
                }
            case .supervisor(let supervisor):
                return supervisor.roster.child(name).map { record in
                    record.nest.map { [.nest($0)] } ?? [.process(record)]
                } ?? []
            case .nest(let nest):
                return Place.supervisor(nest.current).below(name, in: system)
            case .process(let record):
                return record.supervisors.filter { $0.component == name }.map { .supervisor($0) }
            }
        }
    }

    /// Goes down from a place; where names are not unique it tries one after the other.
    private func find(
        _ components: ArraySlice<String>,
        in place: Place,
        depth: Int,
        _ nearest: inout (place: Place, depth: Int)
    ) -> Place? {
        if depth > nearest.depth { nearest = (place, depth) }
        guard let name = components.first else { return place }
        for next in place.below(name, in: self) {
            if let found = find(components.dropFirst(), in: next, depth: depth + 1, &nearest) { return found }
        }
        return nil
    }
}
