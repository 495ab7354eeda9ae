// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

extension SupervisorMachine {
    // MARK: Commands

    /// Children leave: they are stopped in reverse order, one after the other, and are gone then, whatever their type. That is
    /// no failure. Those that are unknown, or leave already, do not count.
    mutating func remove(_ ids: [ChildID], at now: Duration) -> [Action] { take(ids, fate: { _ in .gone }, at: now) }

    /// A child is stopped, and stays specified, unless it is temporary or the supervisor is dynamic: then it is gone.
    ///
    /// It is over when `lay` or `forget` comes; if it is down already nothing is to be done.
    mutating func terminate(_ ids: [ChildID], at now: Duration) -> [Action] {
        let isDynamic = strategy == .dynamic
        return take(ids, fate: { isDynamic || $0.settings.restart == .temporary ? .gone : .down }, at: now)
    }

    /// A child that is down is started again. If that fails it is down again, and that is no restart.
    mutating func restart(_ id: ChildID, at now: Duration) throws(RefusalError) -> [Action] {
        let index = try indexOfDown(id)
        children[index].isManual = true
        return start(id, at: now)
    }

    /// A child that is down is gone from now on.
    mutating func delete(_ id: ChildID) throws(RefusalError) -> [Action] {
        let index = try indexOfDown(id)
        drop(index)
        return [.forget(id)]
    }

    struct RefusalError: Error, Equatable {
        let refusal: Refusal
    }

    private func indexOfDown(_ id: ChildID) throws(RefusalError) -> Int {
        guard phase == .running, let index = children.index(of: id) else { throw RefusalError(refusal: .unknown) }
        switch children[index].state {
        case .down:
            // It is about to be gone.
            if children[index].fate != nil { throw RefusalError(refusal: .stopping) }
            return index
        case .queued, .waiting: throw RefusalError(refusal: .restarting)
        case .starting, .up: throw RefusalError(refusal: .running)
        case .stopping, .retiring: throw RefusalError(refusal: .stopping)
        }
    }
}
