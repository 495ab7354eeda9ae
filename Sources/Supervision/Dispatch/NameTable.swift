// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Who has which name, and who waits for which: what the registry decides. A pure value.
///
/// A holder that has ended counts as nobody, also while it still stands here: `hasEnded` of the process is what is asked.
/// What is taken out is returned, so that it can die outside of the registry's lock.
struct NameTable: Sendable {
    typealias WaiterID = UInt64

    enum Registration {
        /// It has the name now; these waiters go on with it, and this one lost the name, as it has ended.
        case registered(waiters: [WaiterID], former: Recipient?)
        /// It had the name before.
        case held
        case taken(by: Recipient)
    }

    private var holders: [String: Recipient] = [:]
    private var namesOfProcess: [ProcID: Set<String>] = [:]
    private var waiting: [String: [WaiterID]] = [:]
    private var nameOfWaiter: [WaiterID: String] = [:]
    private var nextWaiter: WaiterID = 0

    var waiterCount: Int { nameOfWaiter.count }
    /// Also those that have ended.
    var holderCount: Int { holders.count }

    /// All names of processes that have not ended, in order.
    var names: [String] { holders.filter { !$0.value.proc.hasEnded }.keys.sorted() }

    func names(of id: ProcID) -> [String] { namesOfProcess[id]?.filter { holder(of: $0) != nil }.sorted() ?? [] }

    func holder(of name: String) -> Recipient? { holders[name].flatMap { $0.proc.hasEnded ? nil : $0 } }

    mutating func register(_ name: String, _ recipient: Recipient) -> Registration {
        let former = holders[name]
        if let former {
            if former.proc === recipient.proc { return .held }
            if !former.proc.hasEnded { return .taken(by: former) }
            forget(name, of: former.id)
        }
        holders[name] = recipient
        namesOfProcess[recipient.id, default: []].insert(name)
        let waiters = waiting.removeValue(forKey: name) ?? []
        for waiter in waiters { nameOfWaiter[waiter] = nil }
        return .registered(waiters: waiters, former: former)
    }

    /// Takes a name back; nil if nobody had it, or another one than the one given.
    mutating func unregister(_ name: String, of id: ProcID? = nil) -> Recipient? {
        guard let holder = holders[name], id == nil || holder.id == id else { return nil }
        holders[name] = nil
        forget(name, of: holder.id)
        return holder
    }

    /// A process has ended: its names are free.
    mutating func ended(_ id: ProcID) -> [Recipient] {
        (namesOfProcess.removeValue(forKey: id) ?? []).compactMap { holders.removeValue(forKey: $0) }
    }

    /// Somebody waits for a name; if a process has it there is nothing to wait for.
    mutating func wait(for name: String) -> (holder: Recipient?, waiter: WaiterID) {
        nextWaiter += 1
        if let holder = holder(of: name) { return (holder, nextWaiter) }
        waiting[name, default: []].append(nextWaiter)
        nameOfWaiter[nextWaiter] = name
        return (nil, nextWaiter)
    }

    /// Gives a wait up. False if it is over already.
    mutating func giveUp(_ waiter: WaiterID) -> Bool {
        guard let name = nameOfWaiter.removeValue(forKey: waiter) else { return false }
        waiting[name]?.removeAll { $0 == waiter }
        if waiting[name]?.isEmpty == true { waiting[name] = nil }
        return true
    }

    private mutating func forget(_ name: String, of id: ProcID) {
        namesOfProcess[id]?.remove(name)
        if namesOfProcess[id]?.isEmpty == true { namesOfProcess[id] = nil }
    }
}
